"""What the file of NYU Depth v2 lacks: the official split, and which of its 894 names are which of 40 and 13 classes.

The split is that of ``splits.mat``, 40 classes are those of S. Gupta, P. Arbelaez, J. Malik, "Perceptual Organization
and Recognition of Indoor Scenes from RGB-D Images", CVPR 2013 (``classMapping40.mat``), 13 those of
``class13Mapping.mat``, which groups the 40.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from crodino_lib.data.sample import IGNORE

SCENES = 1449
TEST = (
    "1-2,9,14-18,21,28-43,46-47,56-57,59-63,76-79,84-91,117-119,125-129,131-134,137,153-155,"
    "167-169,171-176,180-202,207-212,220-222,250,264,271-273,279-285,296-302,310-312,315-317,"
    "325-335,351-352,355-364,384-390,395-397,411-414,430-435,441-448,462-466,469-477,508-513,"
    "515-526,531-533,537-539,549-551,555-571,579-583,591-594,603-607,612-613,617-621,633-638,"
    "644-645,650-651,656-658,663-664,668-673,676-681,686-690,693-694,697-699,706-713,717-718,"
    "724-728,731-734,743-744,759-787,800-804,810-814,821-823,833-846,850-852,857-862,869-871,"
    "906-908,917-919,926-928,932-935,945-947,959-962,965-967,970-977,991-995,1001-1004,1010-1012,"
    "1021-1023,1032-1034,1038-1039,1048-1049,1052-1053,1057-1058,1075-1084,1088-1096,1098-1104,"
    "1106-1109,1117-1119,1123-1131,1135-1136,1144-1158,1162-1167,1170-1171,1174-1176,1179-1184,"
    "1192-1196,1201-1212,1216-1220,1226-1230,1233-1235,1247-1250,1254-1265,1275-1280,1285-1295,"
    "1297-1299,1302-1308,1314-1315,1329-1332,1335-1340,1347-1349,1353-1356,1364-1365,1368-1369,"
    "1384-1391,1394-1401,1407-1414,1421-1424,1430-1433,1441-1449"
)  # the others are train
# fmt: off
FROM_894 = (
    21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143, 141, 4, 85, 17, 172, 15, 135,
    123, 26, 45, 331, 158, 124, 24, 144, 136, 55,
)  # the one name of each of the classes 1..37
FROM_40 = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7,
    7, 7, 7, 6, 7,
)  # class of 13, counted from 1, of each of the 40
# fmt: on
OTHERSTRUCTURE = (
    "8,25,33,38,51,53,57-58,62,65,79,94,104,112,134,153,215-216,223,225,238,241-242,256,"
    "295,301,339,342,354,363,372,380,392,408,412,453,456,463,477,497,541,550,553,567,573,"
    "582,591,609,612,615,642,645,657-659,663,667-668,686,700,702,777-778,782,850,861,868,"
    "874"
)
OTHERFURNITURE = (
    "12,43,48,50,87,106,111,161,163,174,183,204,214,219,221,224,236,262,278,291,298,313,"
    "343-344,356,359,373,393,401,414,418-419,430,443-444,447-448,457-458,460,462,475,479,"
    "485-486,493-494,498-499,509-510,515,521,524,540,549,551,554,556,558,576,580,608,625,"
    "703,734,770,772,797,800,803-804,813-815,820,829,835,858,863,882,892"
)


def expand(runs: str) -> list[int]:
    """Numbers of ``"1-2,9"``: 1, 2 and 9."""
    numbers: list[int] = []
    for run in runs.split(","):
        ends = run.split("-")
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    return numbers


def official_split(count: int = SCENES, first: int = 1) -> dict[str, list[str]]:
    """Ids, of four digits, of the official ``train`` and ``test``.

    Args:
        count: how many scenes a copy holds, counted from the first; a whole one has 1449.
        first: number of the first scene: 1 as in MATLAB, or 0 as in copies made with Python.
    """
    test = set(expand(TEST))
    split: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(1, min(count, SCENES) + 1):
        split["test" if number in test else "train"].append(f"{number - 1 + first:04d}")
    return split


def forty_of_894() -> np.ndarray:
    """(895,) uint8: number of a name -> class in ``1..40``; 0, unlabelled, stays 0."""
    forty = np.full(895, 40, np.uint8)  # otherprop: every name that no other class takes, "unknown" among them
    forty[0] = 0
    forty[expand(OTHERSTRUCTURE)] = 38
    forty[expand(OTHERFURNITURE)] = 39
    forty[list(FROM_894)] = range(1, 38)
    return forty


def classes_of_894(count: Literal[13, 40]) -> np.ndarray:
    """(895,) int64: number of a name -> class in ``0..count-1``, 255 = unlabelled."""
    raw = forty_of_894()
    if count == 13:
        raw = np.array([0, *FROM_40])[raw]
    return np.where(raw == 0, IGNORE, raw.astype(np.int64) - 1)
