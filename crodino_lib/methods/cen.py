"""Methods with one trunk for two sensors, from which each sensor's plain network is exported; CEN is the simplest."""

import abc
import warnings

from pydantic import Field
from torch import Tensor, nn

from crodino_lib.data.sample import Batch
from crodino_lib.methods.base import Method
from crodino_lib.models import SegNet, single_sensor_net
from crodino_lib.models.cen import ExchangeForm, ExchangeFusion, ExchangeRule
from crodino_lib.settings import Strict

INERT = 0.01  # share of exchanged channels below which the exchange has no effect


class StreamedMethod(Method):
    """A network of both sensors whose ``trunk`` also contains each sensor's own network.

    Each set of sensors is chosen, and exported, at its own best epoch, as every student of a study is.
    """

    sensor_count = 2

    def build_students(self) -> dict[str, nn.Module]:
        """Build each sensor's plain network, filled by ``export``, and the network that is trained."""
        alone = {sensor: self.build_student(sensor).requires_grad_(False) for sensor in self.sensors}
        self.seed_for(self.sensors[0])
        net = single_sensor_net(3, self.num_classes, self.config.model)
        rule = ExchangeRule(self.settings.exchange, self.settings.exchange_share, self.settings.threshold)
        return alone | {str(self.sensors): self.build_network(net, rule)}

    @abc.abstractmethod
    def build_network(self, net: SegNet, rule: ExchangeRule) -> nn.Module:
        """Build the network of both sensors around a plain RGB network."""

    @property
    def both(self) -> nn.Module:
        """Return the network of both sensors."""
        return self.students[str(self.sensors)]

    def export(self) -> None:
        """Load each sensor's plain network: shared convolutions, its own BatchNorms, no exchange."""
        for sensor in self.sensors:
            self.students[sensor].load_state_dict(self.both.trunk.sensor_state(sensor, self.channels[sensor]))

    def diagnostics(self) -> dict[str, float]:
        """Return the share and size of exchanged channels per layer and sensor; warn where there are next to none."""
        if self.settings.exchange == "none":
            return {}
        shares = self.both.trunk.exchanged_shares()
        if (most := max(shares.values())) < INERT:
            told = f"the exchange is inert: at most {100 * most:.1f} % of a layer's channels are replaced. "
            remedy = "Raise threshold, or leave it out to exchange a share of every layer"
            warnings.warn(told + remedy, stacklevel=2)
        return shares | self.both.trunk.exchanged_scales()


class CENSettings(Strict):
    """Settings of CEN."""

    exchange: ExchangeForm = Field("hard", description="replace channels by the other stream's, by the mean, or none")
    exchange_share: float = Field(0.2, ge=0, le=0.5, description="share of a layer that is replaced, of its own half")
    threshold: float | None = Field(None, ge=0, description="replace channels of a scale below this instead; CEN: 0.02")
    sparsity_weight: float = Field(6e-4, ge=0, description="weight of the scales' sum; CEN's 2e-4 counts three times")


class CEN(StreamedMethod):
    """Channel exchange: one trunk, two streams, their ensemble. It also serves each sensor alone, untrained for that.

    Source: Wang et al., NeurIPS 2020. Ours: the share of channels in place of the fixed threshold, which the scales of
    most pretrained encoders never cross, and BatchNorm statistics that follow the batches.
    """

    Settings = CENSettings
    can_teach = True

    def build_network(self, net: SegNet, rule: ExchangeRule) -> ExchangeFusion:
        """Build two streams and the ensemble of their logits."""
        return ExchangeFusion(net, self.sensors, rule)

    def training_step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the cross-entropies of both streams and the ensemble, and the sparsity of the scales."""
        outputs = self.both.each(*[batch.images[sensor] for sensor in self.sensors])
        sparsity = self.settings.sparsity_weight * self.both.trunk.sparsity()
        return self.segmentation(outputs, batch.labels) | {"sparsity": sparsity}
