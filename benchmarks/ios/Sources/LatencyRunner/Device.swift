import Foundation

#if os(iOS)
import UIKit
#endif

/// What may disturb a measurement, at one moment.
struct Conditions {
    let thermal: String
    let batteryPercent: Double?
    let charging: Bool?
    let lowPowerMode: Bool

    @MainActor static func now() -> Conditions {
        var percent: Double?
        var charging: Bool?
        #if os(iOS)
        // Without monitoring the level is -1 and the state unknown.
        UIDevice.current.isBatteryMonitoringEnabled = true
        let level = UIDevice.current.batteryLevel
        percent = level < 0 ? nil : Double(level) * 100
        let state = UIDevice.current.batteryState
        charging = state == .unknown ? nil : state != .unplugged
        #endif
        return Conditions(
            thermal: thermalState(), batteryPercent: percent, charging: charging,
            lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled)
    }
}

private func thermalState() -> String {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return "nominal"
    case .fair: return "fair"
    case .serious: return "serious"
    default: return "critical"
    }
}

/// Waits for the device to cool down, at most ten minutes. A device that stays warm is measured all
/// the same, since the result says so.
func waitUntilCool() async throws {
    for _ in 0..<120 where ProcessInfo.processInfo.thermalState != .nominal {
        try await Task.sleep(for: .seconds(5))
    }
}

func deviceFacts(name: String?) -> DeviceFacts {
    #if targetEnvironment(simulator)
    let (kind, os) = ("simulator", "iOS")
    #elseif os(macOS)
    let (kind, os) = ("host", "macOS")
    #else
    // An app for iPhones also runs on a Mac with Apple silicon, which is no phone.
    let onMac = ProcessInfo.processInfo.isiOSAppOnMac
    let (kind, os) = onMac ? ("host", "macOS") : ("device", "iOS")
    #endif
    let version = ProcessInfo.processInfo.operatingSystemVersion
    let number = "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
    let build = systemText("kern.osversion").map { " (\($0))" } ?? ""
    // "iPhone15,2" or "Mac14,2"; no API gives the name in the shops.
    let model = systemText(os == "macOS" ? "hw.model" : "hw.machine")
    return DeviceFacts(
        kind: kind, name: name ?? model ?? "unknown", model: model, os: os,
        osVersion: number + build,
        soc: os == "macOS" ? systemText("machdep.cpu.brand_string") : nil)
}

func runnerFacts() -> RunnerFacts {
    #if arch(arm64)
    let abi = "arm64"
    #else
    let abi = "x86_64"
    #endif
    return RunnerFacts(name: runnerName, version: runnerVersion, abi: abi, libc: nil)
}

/// What makes every time doubtful, however cool the device is.
func doubts() -> [String] {
    var found: [String] = []
    #if DEBUG
    found.append("built for debugging")
    #endif
    // As in Apple's Technical Q&A QA1361.
    var process = kinfo_proc()
    var size = MemoryLayout<kinfo_proc>.stride
    var path = [CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid()]
    let known = sysctl(&path, UInt32(path.count), &process, &size, nil, 0) == 0
    if known && (process.kp_proc.p_flag & P_TRACED) != 0 {
        found.append("a debugger was attached")
    }
    return found
}

private func systemText(_ name: String) -> String? {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
    var bytes = [CChar](repeating: 0, count: size)
    guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
    let text = String(cString: bytes)
    return text.isEmpty ? nil : text
}
