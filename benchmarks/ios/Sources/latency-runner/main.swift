// latency-runner JOB_FOLDER...: runs each job on this Mac. Times of a Mac are a host's.

import Foundation
import LatencyRunner

do {
    for folder in CommandLine.arguments.dropFirst() {
        let runner = try JobRunner(folder: URL(fileURLWithPath: folder, isDirectory: true))
        print(try await runner.run().path)
    }
} catch {
    print("latency-runner: \(error.localizedDescription)")
    exit(2)
}
