import CryptoKit
import Foundation

/// Hex SHA-256 of an exported artifact, the same as `sha256_of` in dfnet/artifact.py.
///
/// Of a file it is that of its bytes. A package is a folder: of that it is over all its files,
/// hidden ones included, and for each the path inside the folder with "/" between names, in UTF-8;
/// one zero byte; the size as 8 bytes, little-endian; the bytes. Files are ordered by their paths
/// name by name, not as whole strings: "a/b" comes before "a-b/c", although "-" sorts before "/".
/// A .DS_Store that Finder leaves in a package changes its hash, and so is noticed.
func sha256(of artifact: URL) throws -> String {
    var digest = SHA256()
    if try size(of: artifact) != nil {
        try add(artifact, to: &digest)
    } else {
        let paths = try FileManager.default.subpathsOfDirectory(atPath: artifact.path)
        for path in paths.sorted(by: precedes) {
            let file = artifact.appendingPathComponent(path)
            guard let count = try size(of: file) else { continue }
            digest.update(data: Array(path.utf8) + [0])
            withUnsafeBytes(of: count.littleEndian) { digest.update(bufferPointer: $0) }
            try add(file, to: &digest)
        }
    }
    return digest.finalize().map { String(format: "%02x", $0) }.joined()
}

/// Name by name. UTF-8 bytes sort as Python sorts text; Swift's own order of strings is another.
private func precedes(_ one: String, _ other: String) -> Bool {
    let names = [one, other].map { $0.split(separator: "/").map { Array($0.utf8) } }
    return names[0].lexicographicallyPrecedes(names[1]) { $0.lexicographicallyPrecedes($1) }
}

/// Bytes of a regular file; nil for a folder.
private func size(of file: URL) throws -> UInt64? {
    let attributes = try FileManager.default.attributesOfItem(atPath: file.path)
    guard attributes[.type] as? FileAttributeType == .typeRegular else { return nil }
    return (attributes[.size] as? NSNumber)?.uint64Value
}

private func add(_ file: URL, to digest: inout SHA256) throws {
    let handle = try FileHandle(forReadingFrom: file)
    defer { try? handle.close() }
    while let block = try handle.read(upToCount: 1 << 20), !block.isEmpty {
        digest.update(data: block)
    }
}
