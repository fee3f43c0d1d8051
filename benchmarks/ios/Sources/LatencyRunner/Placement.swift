import CoreML

/// The compute units a job allows.
func computeUnits(_ asked: [String]) throws -> MLComputeUnits {
    switch Set(asked) {
    case ["cpu"]: return .cpuOnly
    case ["cpu", "gpu"]: return .cpuAndGPU
    case ["cpu", "neural_engine"]: return .cpuAndNeuralEngine
    case ["cpu", "gpu", "neural_engine"]: return .all
    default:
        throw Refusal(
            "Accelerator: got \(asked.joined(separator: ", ")), needed cpu with gpu, "
                + "neural_engine, both or neither: Core ML always may use the CPU."
        )
    }
}

/// Where Core ML plans to run each operator of a compiled ML program. The plan is what Core ML
/// anticipates; it does not tell afterwards what ran, hence the evidence "plan".
func acceleratorFacts(
    of compiled: URL, asked: [String], configuration: MLModelConfiguration
) async throws -> AcceleratorFacts {
    let plan = try await MLComputePlan.load(contentsOf: compiled, configuration: configuration)
    guard case .program(let program) = plan.modelStructure, let main = program.functions["main"]
    else { throw Refusal("Model: got no ML program with the function main, needed one.") }
    var placement: [String: [String: Int]] = [:]
    for operation in main.block.operations {
        // Constants run nowhere and have no usage.
        guard let usage = plan.deviceUsage(for: operation) else { continue }
        placement[unit(usage.preferred), default: [:]][operation.operatorName, default: 0] += 1
    }
    return AcceleratorFacts(
        asked: asked,
        ran: placement.keys.sorted(),
        evidence: asked == ["cpu"] ? "only choice" : "plan",
        placement: placement
    )
}

private func unit(_ device: MLComputeDevice) -> String {
    switch device {
    case .cpu: return "cpu"
    case .gpu: return "gpu"
    case .neuralEngine: return "neural_engine"
    @unknown default: return "npu"
    }
}
