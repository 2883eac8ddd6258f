"""What methods with one trunk for two sensors have in common: plain networks of each sensor, cut from it."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.methods.base import Method
from crodino_lib.models.cen import FUSED, ExchangeRule
from crodino_lib.models.segnet import SegNet, SegOutput, single_sensor_net


class StreamedMethod(Method):
    """A network of both sensors whose ``trunk`` also holds each sensor's own.

    Each set of sensors is chosen, and exported, at its own best epoch, as every student of a study is.
    """

    sensor_count = 2

    @property
    def both(self) -> str:
        """Name of the student of both sensors."""
        return "+".join(self.sensors)

    def build_students(self) -> dict[str, nn.Module]:
        """Each sensor's plain network, filled by ``export``, and the one that is trained."""
        alone = {sensor: self.build_student(sensor).requires_grad_(False) for sensor in self.sensors}
        self.seed_for(self.sensors[0])
        net = single_sensor_net(3, self.num_classes, self.config.model)
        rule = ExchangeRule(self.settings.exchange, self.settings.exchange_share, self.settings.threshold)
        return alone | {self.both: self.build_network(net, rule)}

    @abc.abstractmethod
    def build_network(self, net: SegNet, rule: ExchangeRule) -> nn.Module:
        """The network of both sensors around a plain RGB one."""

    def segmentation(self, outputs: dict[str, SegOutput], label: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of every stream, under the names of the students that they are."""
        return {
            f"segmentation/{self.both if name == FUSED else name}": segmentation_cross_entropy(out.logits, label)
            for name, out in outputs.items()
        }

    def export(self) -> None:
        """Each sensor's plain network: the shared convolutions, its BatchNorms, no exchange."""
        trunk = self.students[self.both].trunk
        for sensor in self.sensors:
            state = trunk.sensor_state(sensor, self.card.sensors[sensor].channels)
            self.students[sensor].load_state_dict(state)

    def diagnostics(self) -> dict[str, float]:
        """Share of exchanged channels per layer and sensor, and the size of their scales."""
        if self.settings.exchange == "none":
            return {}
        trunk = self.students[self.both].trunk
        return trunk.exchanged_shares() | trunk.exchanged_scales()
