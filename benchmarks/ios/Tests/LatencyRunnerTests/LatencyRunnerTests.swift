// Run on a Mac: swift test. The expected hash is what dfnet/artifact.py gives; the Python tests
// hold it against the same files.

import CoreML
import XCTest

@testable import LatencyRunner

final class LatencyRunnerTests: XCTestCase {
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    private func write(_ text: String, to path: String) throws {
        let file = folder.appendingPathComponent(path)
        let parent = file.deletingLastPathComponent()
        try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    func testFolderHashIsPythons() throws {
        try write("one", to: "a/b")
        try write("two", to: "a-b/c")
        try write("", to: ".hidden")
        XCTAssertEqual(
            try sha256(of: folder),
            "05c08f9468549b01feaa908607e665b3e6c7363726056b33073cea8d0e8fb48a"
        )
    }

    func testOtherProtocolIsRefused() {
        let job = #"{"protocol": 2, "artifact_file": "m", "artifact_sha256": "", "inputs": [], "#
            + #""repeats": 3, "warmups": 5, "runs": 50, "seconds": 1, "accelerator": ["cpu"]}"#
        XCTAssertThrowsError(try readJob(Data(job.utf8)))
    }

    func testUnitsOutsideCoreMLAreRefused() {
        XCTAssertEqual(try computeUnits(["gpu", "cpu"]), .cpuAndGPU)
        XCTAssertThrowsError(try computeUnits(["gpu"]))
    }

    func testChangedArtifactIsAnErrorInTheResult() async throws {
        try write("changed", to: "model.mlpackage/Manifest.json")
        let job = #"{"protocol": 1, "artifact_file": "model.mlpackage", "artifact_sha256": "00", "#
            + #""inputs": [], "repeats": 3, "warmups": 5, "runs": 50, "seconds": 1, "#
            + #""accelerator": ["cpu"]}"#
        try write(job, to: "job.json")
        let written = try await JobRunner(folder: folder).run()
        let text = try String(contentsOf: written, encoding: .utf8)
        XCTAssertTrue(text.contains("\"stage\" : \"hashing the artifact\""))
    }
}
