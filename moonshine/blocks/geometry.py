"""Geometry of the spatial convolution at a place. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moonshine.blocks.expressions import (
    Chain,
    Conv,
    Expression,
    Generator,
    Joint,
    Padding,
    PaddingMode,
    PerAxis,
)
from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class Geometry:
    """Convolution at a place of an ordinary network, and the form of spatial convolutions in that network.

    ``factorised``: as in ERFNet, a kx1 and a 1xk with a ReLU between them. ``bias``: its replacement ends with a bias.
    ``stage``: the stage of a built-in network that it is in, counted from 1.
    """

    in_channels: int
    out_channels: int
    kernel: PerAxis = (3, 3)
    stride: PerAxis = (1, 1)
    dilation: PerAxis = (1, 1)
    padding: Padding = (1, 1)
    padding_mode: PaddingMode = "zeros"
    factorised: bool = False
    bias: bool = False
    stage: int | None = None

    @property
    def keeps_resolution(self) -> bool:
        """Whether only its stride changes the resolution; "same" has to pad both sides equally."""
        rows, columns = self.reach
        if isinstance(self.padding, str):
            return self.padding == "same" and not (rows % 2 or columns % 2)
        return (2 * self.padding[0], 2 * self.padding[1]) == (rows, columns)

    @property
    def reach(self) -> PerAxis:
        """Distance from the first to the last pixel of its window, in rows and columns."""
        return reach(self.kernel, self.dilation)

    def spatial(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int = 1,
        joint: Joint = "linear",
        kernel: PerAxis | None = None,
        dilation: PerAxis | None = None,
        weight: Generator | None = None,
    ) -> Expression:
        """Return a spatial convolution in the network's form, with the place's stride.

        Another kernel and dilation must have the same reach as the place's, so that its padding fits.
        """
        kernel, dilation = kernel or self.kernel, dilation or self.dilation
        assert reach(kernel, dilation) == self.reach
        if weight and self.padding_mode != "zeros":
            raise MoonshineError(f"its padding is {self.padding_mode}; allowed: zeros")
        whole = Conv(
            inputs,
            outputs,
            kernel,
            self.stride,
            dilation,
            self.padding,
            self.padding_mode,
            groups,
            weight=weight,
            joint=joint,
        )
        if not self.factorised:
            return whole
        rows, columns = along(whole, 0), along(whole, 1)
        return Chain(replace(rows, joint="relu"), replace(columns, in_channels=outputs))

    def again(self) -> Geometry:
        """The place of a second such convolution behind the first: without a stride, on maps that keep their size."""
        rows, columns = self.reach
        if rows % 2 or columns % 2:
            raise MoonshineError(
                f"a second kernel of {self.kernel[0]}x{self.kernel[1]} cannot keep the size; allowed: an odd one"
            )
        return replace(self, in_channels=self.out_channels, stride=(1, 1), padding=(rows // 2, columns // 2))

    def check_resolution(self) -> None:
        """MoonshineError where maps change their size by more than the stride, which a 1x1 beside could not follow."""
        if not self.keeps_resolution:
            raise MoonshineError(
                f"its 1x1 has maps of another size than a kernel of {self.kernel[0]}x{self.kernel[1]} with a padding "
                f"of {self.padding}; allowed: an odd kernel with a padding of half of it"
            )

    def then(self, second: Geometry) -> Geometry:
        """Return one geometry for this convolution and a second one after it, with both strides.

        Kernel, dilation and padding are the first's; in ERFNet, where only the second is dilated, the second's.
        """
        spatial = second if second.factorised else self
        stride = (self.stride[0] * second.stride[0], self.stride[1] * second.stride[1])
        whole = replace(
            spatial,
            in_channels=self.in_channels,
            out_channels=second.out_channels,
            stride=stride,
            bias=second.bias,
        )
        if self.padding == "same" and stride != (1, 1):  # torch refuses "same" with a stride
            rows, columns = self.reach
            return replace(whole, padding=(rows // 2, columns // 2))
        return whole


def along(conv: Conv, axis: int) -> Conv:
    """Restrict a convolution's kernel, stride, dilation and padding to one axis: 0 for rows, 1 for columns."""

    def only(pair: PerAxis, other: int) -> PerAxis:
        return (pair[0], other) if axis == 0 else (other, pair[1])

    padding = conv.padding if isinstance(conv.padding, str) else only(conv.padding, 0)
    return replace(
        conv,
        kernel=only(conv.kernel, 1),
        stride=only(conv.stride, 1),
        dilation=only(conv.dilation, 1),
        padding=padding,
    )


def reach(kernel: PerAxis, dilation: PerAxis) -> PerAxis:
    """Return the distance from the first to the last pixel of a kernel, in rows and columns."""
    return dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)
