// The iPhone's road: runs every job found in the app's Documents folder. A package's tests are no
// road: Xcode runs them on no device, for want of a host application.

import LatencyRunner
import SwiftUI

@main
struct LatencyApp: App {
    @State private var status = "Looking for job.json in Documents"

    var body: some Scene {
        WindowGroup {
            Text(status).padding().task(priority: .userInitiated) { await runAll() }
        }
    }

    @MainActor private func runAll() async {
        // A phone that locks itself halts the app.
        UIApplication.shared.isIdleTimerDisabled = true
        for folder in jobFolders() {
            do {
                say("Running \(folder.lastPathComponent)")
                say("Wrote \(try await JobRunner(folder: folder).run().path)")
            } catch {
                say("\(folder.lastPathComponent): \(error.localizedDescription)")
            }
        }
        say("Finished")
        if CommandLine.arguments.contains("--exit") { exit(0) }
    }

    private func say(_ line: String) {
        print(line)
        status += "\n" + line
    }

    private func jobFolders() -> [URL] {
        let documents = URL.documentsDirectory
        let paths = (try? FileManager.default.subpathsOfDirectory(atPath: documents.path)) ?? []
        return paths.filter { $0 == "job.json" || $0.hasSuffix("/job.json") }.sorted()
            .map { documents.appendingPathComponent($0).deletingLastPathComponent() }
    }
}
