"""What a device is, from its system properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from android_harness.transport import Transport
from dfnet.errors import DeviceError
from dfnet.runner import Device

_EMULATED_HARDWARE = ("goldfish", "ranchu", "qemu")
"""``ro.hardware`` of Google's emulators and of this project's."""


@dataclass(frozen=True)
class DeviceIdentity:
    """``os_version`` is Android's, with the build in brackets; None for what is not Android."""

    device: Device
    abi: str
    model: str | None
    os_version: str | None
    soc: str | None


def identify(transport: Transport) -> DeviceIdentity:
    """Asks the device.

    Raises:
        DeviceError: it does not even tell its ABI.
    """
    text = transport.query(["getprop"])
    found = dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]\s*$", text, re.MULTILINE))
    properties = {name: value.strip() for name, value in found.items() if value.strip()}
    abi = properties.get("ro.product.cpu.abi")
    if abi is None:
        raise DeviceError(
            f"{transport.subject}: got no ro.product.cpu.abi, needed an Android device's getprop."
        )
    return DeviceIdentity(
        device=_device(properties, transport.serial),
        abi=abi,
        model=properties.get("ro.product.model"),
        os_version=_os_version(properties),
        soc=_joined(properties, "ro.soc.manufacturer", "ro.soc.model"),
    )


def _device(properties: Mapping[str, str], serial: str) -> Device:
    emulated = any(properties.get(name) == "1" for name in ("ro.kernel.qemu", "ro.boot.qemu"))
    emulated = emulated or properties.get("ro.hardware") in _EMULATED_HARDWARE
    name = _joined(properties, "ro.product.manufacturer", "ro.product.model") or serial
    return Device("emulator" if emulated else "device", name)


def _os_version(properties: Mapping[str, str]) -> str | None:
    version, build = (properties.get(f"ro.build.{n}") for n in ("version.release", "id"))
    return version if version is None or build is None else f"{version} ({build})"


def _joined(properties: Mapping[str, str], *names: str) -> str | None:
    return " ".join(properties[name] for name in names if name in properties) or None
