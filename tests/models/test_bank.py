import copy

import pytest
import torch

from crodino_lib.models.bank import ClassBank


def vectors(*numbers):
    """One recognisable vector per number."""
    return torch.tensor([[n, 10 * n] for n in numbers], dtype=torch.float32)


def push(bank, numbers, classes):
    bank.push(vectors(*numbers), torch.tensor(classes))


def held(bank, k):
    found, classes = bank.all()
    torch.testing.assert_close(found[:, 1], 10 * found[:, 0], rtol=0, atol=0)
    return sorted(found[classes == k, 0].tolist())


@pytest.fixture
def bank():
    return ClassBank(num_classes=3, size=4, channels=2)


def test_an_empty_bank_gives_no_vectors(bank):
    for found, classes in (bank.all(), bank.sample(2)):
        assert found.shape == (0, 2)
        assert classes.shape == (0,)
        assert classes.dtype == torch.int64


def test_only_what_was_pushed_is_returned_never_an_empty_slot(bank):
    push(bank, [1, 2, 3], [2, 0, 2])
    bank.push(torch.zeros(2, 2), torch.tensor([1, 2]))
    found, classes = bank.all()
    torch.testing.assert_close(found, vectors(2, 1, 3), rtol=0, atol=0)
    assert classes.tolist() == [0, 2, 2]
    assert bank.sample(4)[0].any(dim=1).all()


def test_class_zero_is_a_class_like_any_other(bank):
    """ContrastiveSeg's bank never fills it."""
    push(bank, [1, 2], [0, 1])
    assert held(bank, 0) == [1]
    assert bank.sample(1)[1].tolist() == [0, 1]


def test_the_oldest_are_overwritten_class_by_class(bank):
    push(bank, [1, 2, 3, 50], [1, 1, 1, 2])
    push(bank, [4, 5, 6], [1, 1, 1])
    assert held(bank, 1) == [3, 4, 5, 6]
    assert held(bank, 2) == [50]


def test_more_new_vectors_than_fit_keep_the_last_ones(bank):
    push(bank, [99, 1, 2, 3, 4, 5, 6], [1] * 7)
    assert held(bank, 1) == [3, 4, 5, 6]
    push(bank, [7], [1])
    assert held(bank, 1) == [4, 5, 6, 7]


def test_equals_a_list_per_class_that_forgets_its_oldest():
    bank, lists = ClassBank(4, size=5, channels=2), [[] for _ in range(4)]
    generator, number = torch.Generator().manual_seed(0), 0
    for _ in range(30):
        classes = torch.randint(4, (int(torch.randint(9, (), generator=generator)),), generator=generator)
        numbers = list(range(number + 1, number + 1 + len(classes)))
        number += len(classes)
        bank.push(vectors(*numbers).reshape(-1, 2), classes)
        for n, k in zip(numbers, classes.tolist(), strict=True):
            lists[k] = [*lists[k], n][-5:]
        assert [held(bank, k) for k in range(4)] == lists


def test_a_sample_is_without_replacement_and_follows_the_global_seed(bank):
    push(bank, [1, 2, 3, 4, 5], [0, 0, 0, 0, 2])
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        found, classes = bank.sample(2)
        torch.manual_seed(seed)
        torch.testing.assert_close(bank.sample(2)[0], found, rtol=0, atol=0)
        assert classes.tolist() == [0, 0, 2]
        assert len({*found[:, 0].tolist()}) == 3
        seen |= {*found[:, 0].tolist()}
    assert seen == {1, 2, 3, 4, 5}


def test_a_resumed_bank_is_identical(bank):
    push(bank, [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 1])
    resumed = ClassBank(3, 4, 2)
    resumed.load_state_dict(copy.deepcopy(bank.state_dict()))
    for one in (bank, resumed):
        push(one, [7, 8], [0, 1])
    torch.testing.assert_close(dict(resumed.state_dict()), dict(bank.state_dict()), rtol=0, atol=0)


def test_keeps_no_graph_and_no_parameters_and_takes_half_precision(bank):
    source = vectors(1).requires_grad_()
    bank.push(source, torch.tensor([0]))
    bank.push(vectors(2).bfloat16(), torch.tensor([0]))
    source.data.fill_(7)
    found, _ = bank.all()
    assert not found.requires_grad
    assert found.dtype == torch.float32
    assert held(bank, 0) == [1, 2]
    assert not list(bank.parameters())
