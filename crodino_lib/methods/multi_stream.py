"""Base of methods with one trunk for two sensors, from which each sensor's plain network is exported."""

import abc

from torch import Tensor, nn

from crodino_lib.losses import segmentation_cross_entropy
from crodino_lib.methods.base import Method
from crodino_lib.models import SegNet, SegOutput, single_sensor_net
from crodino_lib.models.cen import FUSED, ExchangeRule


class StreamedMethod(Method):
    """A network of both sensors whose ``trunk`` also contains each sensor's own network.

    Each set of sensors is chosen, and exported, at its own best epoch, as every student of a study is.
    """

    sensor_count = 2

    @property
    def both(self) -> str:
        """Return the name of the student of both sensors."""
        return str(self.sensors)

    def build_students(self) -> dict[str, nn.Module]:
        """Build each sensor's plain network, filled by ``export``, and the network that is trained."""
        alone = {sensor: self.build_student(sensor).requires_grad_(False) for sensor in self.sensors}
        self.seed_for(self.sensors[0])
        net = single_sensor_net(3, self.num_classes, self.config.model)
        rule = ExchangeRule(self.settings.exchange, self.settings.exchange_share, self.settings.threshold)
        return alone | {self.both: self.build_network(net, rule)}

    @abc.abstractmethod
    def build_network(self, net: SegNet, rule: ExchangeRule) -> nn.Module:
        """Build the network of both sensors around a plain RGB network."""

    def segmentation(self, outputs: dict[str, SegOutput], label: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of every stream, named by its student."""
        return {
            f"segmentation/{self.both if name == FUSED else name}": segmentation_cross_entropy(out.logits, label)
            for name, out in outputs.items()
        }

    def export(self) -> None:
        """Load each sensor's plain network: shared convolutions, its own BatchNorms, no exchange."""
        trunk = self.students[self.both].trunk
        for sensor in self.sensors:
            state = trunk.sensor_state(sensor, self.card.sensors[sensor].channels)
            self.students[sensor].load_state_dict(state)

    def diagnostics(self) -> dict[str, float]:
        """Return the share of exchanged channels per layer and sensor, and the size of their scales."""
        if self.settings.exchange == "none":
            return {}
        trunk = self.students[self.both].trunk
        return trunk.exchanged_shares() | trunk.exchanged_scales()
