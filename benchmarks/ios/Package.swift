// swift-tools-version: 5.9
import PackageDescription

// The runner of docs/device-protocol.md for Core ML packages; docs/ios.md says how to run it.
// iOS 17.4 and macOS 14.4 are the first releases with MLComputePlan, which says what would run.
let package = Package(
    name: "LatencyRunner",
    platforms: [.iOS("17.4"), .macOS("14.4")],
    products: [
        .library(name: "LatencyRunner", targets: ["LatencyRunner"]),
        .executable(name: "latency-runner", targets: ["latency-runner"]),
    ],
    targets: [
        .target(name: "LatencyRunner"),
        .executableTarget(name: "latency-runner", dependencies: ["LatencyRunner"]),
        .testTarget(name: "LatencyRunnerTests", dependencies: ["LatencyRunner"]),
    ]
)
