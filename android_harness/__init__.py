"""A phone, or an emulated arm64 device, behind adb: native runners, their bundle, the emulator."""
