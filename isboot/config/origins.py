"""Which source won for each value, and which ones lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from isboot.values import Origin


@dataclass
class Origins:
    """
    The account of a configuration: the first claim to a value holds.

    :ivar warnings: a line for each value that two sources give differently, naming both
    """

    warnings: list[str] = field(default_factory=list)
    _rows: dict[str, Origin] = field(default_factory=dict)

    def claim(self, what: str, claim: tuple[str, str], *, is_known: bool = False) -> None:
        """
        Note that a source gives a value; "" is none.

        :param claim: the value as people read it, and the source
        :param is_known: the source's own words tell the value already
        """
        value, source = claim
        held = self._rows.get(what)
        if not value:
            return
        if held is None:
            self._rows[what] = Origin(what, value, source)
        elif held.value != value and source != held.source:
            loser = source if is_known else f"{value} by the {source}"
            if loser in held.overruled.split(", "):
                return
            overruled = f"{held.overruled}, {loser}" if held.overruled else loser
            self._rows[what] = Origin(what, held.value, held.source, overruled)
            self.warnings.append(
                f"{what} is set twice: {held.value} by the {held.source} and {loser}; the former holds"
            )

    def rows(self) -> tuple[Origin, ...]:
        return tuple(self._rows.values())
