// The JSON of docs/device-protocol.md. Keys are these names in snake_case, made by the coders'
// key strategies; a test of the Python side compares them with its own.

import Foundation

let protocolVersion = 1
let runnerName = "dfnet-latency-coreml"
let runnerVersion = "1.0"

/// One input: a file of little-endian values in C order, beside job.json.
struct JobInput: Codable {
    let name, file: String
    let shape: [Int]
    let dtype: String
}

/// What to measure; job.json.
struct Job: Codable {
    let `protocol`: Int
    let artifactFile, artifactSha256: String
    let inputs: [JobInput]
    let repeats, warmups, runs: Int
    let seconds: Double
    let threads: Int?
    let accelerator: [String]
    let deviceName: String?
}

struct DeviceFacts: Codable {
    let kind, name: String
    let model: String?
    let os, osVersion: String
    let soc: String?
}

struct RunnerFacts: Codable {
    let name, version, abi: String
    let libc: String?
}

struct AcceleratorFacts: Codable {
    let asked, ran: [String]
    let evidence: String
    let placement: [String: [String: Int]]?
}

struct DeviceRepeat: Codable {
    let loadMs, firstMs: Double
    let warmupMs, samplesMs: [Double]
    let thermalBefore, thermalAfter: String?
    let batteryPercent: Double?
    let charging, lowPowerMode: Bool?
}

struct RunError: Codable {
    let stage, message: String
}

/// What was measured; result.json. Optional values that are nil are left out of the file, which
/// the protocol reads as null.
struct DeviceResult: Codable {
    let `protocol`: Int
    let artifactSha256: String
    let device: DeviceFacts
    let runner: RunnerFacts
    let accelerator: AcceleratorFacts?
    let threads: Int?
    let cold: String?
    let compileMs: Double?
    let repeats: [DeviceRepeat]?
    let peakMemoryMb: Double?
    let doubts: [String]
    let error: RunError?
}

/// A reason to stop, in one sentence.
struct Refusal: LocalizedError {
    let errorDescription: String?

    init(_ sentence: String) {
        errorDescription = sentence
    }
}

func readJob(_ data: Data) throws -> Job {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let job = try decoder.decode(Job.self, from: data)
    guard job.protocol == protocolVersion else {
        throw Refusal("job.json: got protocol \(job.protocol), needed \(protocolVersion).")
    }
    return job
}

func writeResult(_ result: DeviceResult) throws -> Data {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return try encoder.encode(result)
}
