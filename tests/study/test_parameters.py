"""Any parameters that papermill may bring: a study of exactly these settings, or an error that names what is wrong."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from crodino_lib.config import StudyConfig
from crodino_lib.study.notebooks import notebook_parameters

KNOWN = StudyConfig.settings()
RIGHT = {  # some right values of each setting; None is one of all of them
    "study": ["mine", "v1.2-b"],
    "profile": ["smoke", "quick", "cpu"],
    "sensors": [["rgb", "depth"], ["thermal", "rgb"]],
    "methods": [["baseline"], ["kd", "crodino-kd:no-contrast"]],
    "size": ["64x48", "native"],
    "scenes": [[20, 4, 4], [1, 1, 1]],
    "labelled": [16, "all"],
    "limit": [True, False],
    "options": [{"evidence": 1.0}, {}],
    "learning_rate": [1e-4, 1e-2],
    "warmup": [0.05, 0.5],
    "atrous_rates": [[2, 4], [1]],
    "output_stride": [8, 32],
    "precision": ["fp32", "bf16"],
    "seeds": [1, 8],
    "steps": [1, 400],
}
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
TABLE = lambda part: st.dictionaries(st.text(max_size=5), part, max_size=2)  # noqa: E731
ANY = st.recursive(PLAIN, lambda part: st.lists(part, max_size=3) | TABLE(part))
VALUES = {name: (st.sampled_from(RIGHT[name]) if name in RIGHT else st.none()) | ANY for name in KNOWN}
NAMES = st.sampled_from([*KNOWN, *(name[:-1] for name in KNOWN), "epoch", "Methods", "given", "data"])


@st.composite
def parameters(draw):
    """Names and values as papermill's -p, -y and -f have them: right ones, and anything else."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    return {name: draw(VALUES.get(name, ANY)) for name in names}


def parsed(values):
    """The study of these settings, or the text of the error."""
    try:
        return StudyConfig.parse(values)
    except ValueError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(parameters())
def test_a_study_has_the_settings_given_or_the_error_names_one_of_them(values):
    study = parsed(values)
    if isinstance(study, str):
        wrong = [line for line in study.splitlines() if any(name in line for name in values)]
        assert wrong
        return
    found = study.model_dump()
    told = found | found["data"] | found["model"] | found["train"]
    for name, value in values.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert value is None or told[name] == (None if (name, value) == ("labelled", "all") else expected)
    assert math.isfinite(study.train.learning_rate)
    assert parsed(study.flat()) == study
    assert parsed(json.loads(json.dumps(study.flat(), allow_nan=False))) == study


@settings(max_examples=100, deadline=None)
@given(parameters())
def test_what_papermill_injects_is_what_was_given(values):
    """papermill writes values as source, the kernel runs it, and a notebook reads what it set."""
    cells = ["# Parameters: ours\nprofile = 'smoke'\nseeds = 1", PythonTranslator.codify(values)]
    namespace = {"In": cells}
    for cell in cells:
        exec(cell, namespace)
    given = {"profile": "smoke", "seeds": 1} | values
    assert parsed(notebook_parameters(namespace)) == parsed(given)
