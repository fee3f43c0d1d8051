// Refocusing with the -app packages of dfnet-mobile on iOS; docs/apps.md explains.
import CoreML
import CoreVideo

let height = 768
let width = 1024

enum RefocusError: Error {
    case noPicture
}

/// Cameras' pictures as kCVPixelFormatType_32BGRA, maps as kCVPixelFormatType_OneComponent8.
struct Pictures {
    let wide: CVPixelBuffer
    let ultrawide: CVPixelBuffer
    let defocusWide: CVPixelBuffer
    let defocusUltrawide: CVPixelBuffer
    let defocusTarget: CVPixelBuffer
    let occlusion: CVPixelBuffer
}

final class Refocus {
    private let model: MLModel

    init(compiledModel: URL) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = .all
        model = try MLModel(contentsOf: compiledModel, configuration: configuration)
    }

    func refocus(_ pictures: Pictures) throws -> CVPixelBuffer {
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "wide": MLFeatureValue(pixelBuffer: pictures.wide),
            "ultrawide": MLFeatureValue(pixelBuffer: pictures.ultrawide),
            "defocus_wide": MLFeatureValue(pixelBuffer: pictures.defocusWide),
            "defocus_ultrawide": MLFeatureValue(pixelBuffer: pictures.defocusUltrawide),
            "defocus_target": MLFeatureValue(pixelBuffer: pictures.defocusTarget),
            "occlusion": MLFeatureValue(pixelBuffer: pictures.occlusion),
        ])
        let outputs = try model.prediction(from: inputs)
        guard let refocused = outputs.featureValue(for: "refocused")?.imageBufferValue else {
            throw RefocusError.noPicture
        }
        return refocused
    }
}
