import CoreML
import Foundation

/// Runs the job in one folder and writes result.json beside job.json.
///
/// A repeat is cold in this sense: the compiled model is loaded anew into the same process after
/// the one before was released. Core ML keeps caches on disk, so that only the first load after an
/// installation specializes the model for the device; the times of all loads are in the result.
public struct JobRunner {
    private let folder: URL
    private let job: Job
    private let configuration = MLModelConfiguration()

    /// Throws when there is no readable job.json of this version in `folder`.
    public init(folder: URL) throws {
        self.folder = folder
        job = try readJob(Data(contentsOf: folder.appendingPathComponent("job.json")))
    }

    /// Measures, and returns where the result is; a failure stands in the result. Call it from a
    /// task of high priority: a background task runs on the slow cores.
    public func run() async throws -> URL {
        var stage = "checking the job"
        let result: DeviceResult
        do {
            try checkJob()
            stage = "hashing the artifact"
            let package = try checkedArtifact()
            stage = "reading the inputs"
            let inputs = try readInputs()
            stage = "compiling the package"
            let start = ContinuousClock.now
            let compiled = try await MLModel.compileModel(at: package)
            let compileMs = milliseconds(since: start)
            defer { try? FileManager.default.removeItem(at: compiled) }
            stage = "predicting"
            var repeats: [DeviceRepeat] = []
            for _ in 0..<job.repeats {
                repeats.append(try await oneRepeat(compiled, inputs))
            }
            // The plan comes last, since making it may warm Core ML's caches.
            stage = "reading the compute plan"
            let units = try await acceleratorFacts(
                of: compiled, asked: job.accelerator, configuration: configuration)
            result = describe(units, compileMs: compileMs, repeats: repeats)
        } catch {
            let reason = RunError(stage: stage, message: error.localizedDescription)
            result = describe(error: reason)
        }
        let target = folder.appendingPathComponent("result.json")
        try writeResult(result).write(to: target, options: .atomic)
        return target
    }

    private func checkJob() throws {
        configuration.computeUnits = try computeUnits(job.accelerator)
        if let threads = job.threads {
            throw Refusal("Threads: got \(threads), needed none: Core ML chooses its own.")
        }
        guard job.repeats > 0, job.runs > 0, job.warmups >= 0 else {
            throw Refusal("job.json: got no repeats or no runs, needed at least one of each.")
        }
    }

    private func checkedArtifact() throws -> URL {
        let artifact = folder.appendingPathComponent(job.artifactFile)
        guard artifact.pathExtension == "mlpackage" else {
            throw Refusal("Artifact: got \(job.artifactFile), needed an .mlpackage.")
        }
        let found = try sha256(of: artifact)
        guard found == job.artifactSha256 else {
            throw Refusal("Artifact: got sha256 \(found), needed the job's. Copy it again.")
        }
        return artifact
    }

    private func readInputs() throws -> MLDictionaryFeatureProvider {
        var values: [String: MLFeatureValue] = [:]
        for input in job.inputs {
            let data = try Data(contentsOf: folder.appendingPathComponent(input.file))
            let needed = input.shape.reduce(MemoryLayout<Float>.size, *)
            guard input.dtype == "float32", data.count == needed else {
                throw Refusal("Input \(input.name): got \(data.count) bytes, needed \(needed).")
            }
            // Apple's processors are little-endian, as the files are.
            let array = MLShapedArray<Float>(data: data, shape: input.shape)
            values[input.name] = MLFeatureValue(shapedArray: array)
        }
        return try MLDictionaryFeatureProvider(dictionary: values)
    }

    private func oneRepeat(
        _ compiled: URL, _ inputs: MLDictionaryFeatureProvider
    ) async throws -> DeviceRepeat {
        try await waitUntilCool()
        let before = await Conditions.now()
        let times = try autoreleasepool { try measure(compiled, inputs) }
        let after = await Conditions.now()
        return DeviceRepeat(
            loadMs: times.load, firstMs: times.first, warmupMs: times.warmup,
            samplesMs: times.samples, thermalBefore: before.thermal, thermalAfter: after.thermal,
            batteryPercent: before.batteryPercent, charging: before.charging,
            lowPowerMode: before.lowPowerMode || after.lowPowerMode)
    }

    /// Not async, so that the calls timed are Core ML's blocking ones, without task switches.
    private func measure(_ compiled: URL, _ inputs: MLDictionaryFeatureProvider) throws -> Times {
        var times = Times()
        var start = ContinuousClock.now
        let model = try MLModel(contentsOf: compiled, configuration: configuration)
        times.load = milliseconds(since: start)
        start = ContinuousClock.now
        let first = try model.prediction(from: inputs)
        times.first = milliseconds(since: start)
        let options = MLPredictionOptions()
        // Buffers to write results into, as an app would give; Core ML may decline them.
        for name in first.featureNames {
            guard let array = first.featureValue(for: name)?.multiArrayValue else { continue }
            options.outputBackings[name] = try MLMultiArray(
                shape: array.shape, dataType: array.dataType)
        }
        for _ in 0..<job.warmups {
            times.warmup.append(try predict(model, inputs, options))
        }
        while times.samples.count < job.runs || times.samples.reduce(0, +) < job.seconds * 1000 {
            times.samples.append(try predict(model, inputs, options))
        }
        return times
    }

    private func predict(
        _ model: MLModel, _ inputs: MLDictionaryFeatureProvider, _ options: MLPredictionOptions
    ) throws -> Double {
        // The pool frees what Core ML leaves behind, outside of the time measured.
        try autoreleasepool {
            let start = ContinuousClock.now
            _ = try model.prediction(from: inputs, options: options)
            return milliseconds(since: start)
        }
    }

    private func describe(
        _ units: AcceleratorFacts? = nil, compileMs: Double? = nil,
        repeats: [DeviceRepeat]? = nil, error: RunError? = nil
    ) -> DeviceResult {
        DeviceResult(
            protocol: protocolVersion, artifactSha256: job.artifactSha256,
            device: deviceFacts(name: job.deviceName), runner: runnerFacts(), accelerator: units,
            threads: nil, cold: repeats == nil ? nil : "load", compileMs: compileMs,
            repeats: repeats, peakMemoryMb: nil, doubts: doubts(), error: error)
    }
}

private struct Times {
    var load = 0.0, first = 0.0
    var warmup: [Double] = [], samples: [Double] = []
}

private func milliseconds(since start: ContinuousClock.Instant) -> Double {
    start.duration(to: .now) / Duration.milliseconds(1)
}
