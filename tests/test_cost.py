"""Operations, time and memory, counted by hand where that is possible."""

import pytest
import torch
from torch import nn

from crodino_lib.cost import counted_flops, inference_cost, latency_ms
from crodino_lib.device import peak_memory, reset_peak_memory
from crodino_lib.models.segnet import SegOutput


class Toy(nn.Module):
    """A step of one convolution, beside a teacher of another."""

    def __init__(self, groups=1):
        super().__init__()
        self.student = nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)
        self.teacher = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x):
        with torch.no_grad():
            self.teacher(x)
        return self.student(x).sum()


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_step_is_three_forward_passes_of_the_student_and_one_of_the_teacher(groups):
    method, x = Toy(groups), torch.rand(2, 8, 6, 5, requires_grad=True)
    with counted_flops(method) as first:
        loss = method(x)
    with counted_flops(method) as second:
        loss.backward()
    found = {name: first[name] + second[name] for name in first}
    forward = 2 * (2 * 6 * 5) * 8 * (8 // groups) * 9  # 2 for multiply and add
    teacher = 2 * (2 * 6 * 5) * 8 * 4
    assert found == {"total": 3 * forward + teacher, "teacher": teacher}


def test_an_input_that_needs_no_gradient_costs_none():
    method = Toy()
    with counted_flops(method) as found:
        method(torch.rand(1, 8, 4, 4)).backward()
    assert found["total"] == 2 * (2 * 16 * 8 * 8 * 9) + found["teacher"]


def test_a_network_s_parameters_and_operations():
    network = nn.Conv2d(3, 5, 1)
    assert inference_cost(network, [torch.rand(1, 3, 4, 4)]) == {"parameters": 20, "flops": 2 * 16 * 15}


def test_latency_is_of_a_forward_pass():
    class Slow(nn.Module):
        def forward(self, x):
            return SegOutput(x, [], x, None, None, x)

    assert 0 < latency_ms(Slow(), [torch.rand(1, 1, 2, 2)]) < 50


def test_a_peak_can_be_forgotten():
    device = torch.device("cpu")
    block = torch.ones(60_000_000)
    high = peak_memory(device)
    del block
    reset_peak_memory(device)
    assert peak_memory(device) <= high
