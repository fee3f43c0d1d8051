// Refocusing with the -app files of dfnet-mobile on Android; docs/apps.md explains.
package com.example.refocus

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import org.tensorflow.lite.Interpreter

const val HEIGHT = 768
const val WIDTH = 1024

/** Pictures as bytes, row by row: RGB RGB ... for the cameras, one byte a pixel for the maps. */
class Pictures(
    val wide: ByteArray,
    val ultrawide: ByteArray,
    val defocusWide: ByteArray,
    val defocusUltrawide: ByteArray,
    val defocusTarget: ByteArray,
    val occlusion: ByteArray,
)

/** LiteRT's interpreter: inputs by their names in the file's signature. */
class InterpreterRefocus(model: ByteBuffer) : AutoCloseable {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(2))

    fun refocus(pictures: Pictures): ByteArray {
        val inputs = mapOf<String, Any>(
            "wide" to direct(pictures.wide),
            "ultrawide" to direct(pictures.ultrawide),
            "defocus_wide" to direct(pictures.defocusWide),
            "defocus_ultrawide" to direct(pictures.defocusUltrawide),
            "defocus_target" to direct(pictures.defocusTarget),
            "occlusion" to direct(pictures.occlusion),
        )
        val refocused = ByteBuffer.allocateDirect(HEIGHT * WIDTH * 3)
        interpreter.runSignature(inputs, mapOf<String, Any>("refocused" to refocused))
        return ByteArray(HEIGHT * WIDTH * 3).also { refocused.rewind(); refocused.get(it) }
    }

    override fun close() = interpreter.close()

    private fun direct(bytes: ByteArray): ByteBuffer =
        ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes).rewind() as ByteBuffer
}

/** ExecuTorch: inputs by position, in the order of the manifest. */
class ExecuTorchRefocus(path: String) {
    private val module = Module.load(path)

    fun refocus(pictures: Pictures): ByteArray {
        val inputs = arrayOf(
            tensor(pictures.wide, 3),
            tensor(pictures.ultrawide, 3),
            tensor(pictures.defocusWide, 1),
            tensor(pictures.defocusUltrawide, 1),
            tensor(pictures.defocusTarget, 1),
            tensor(pictures.occlusion, 1),
        )
        return module.forward(*inputs)[0].toTensor().dataAsUnsignedByteArray
    }

    private fun tensor(bytes: ByteArray, channels: Long): EValue =
        EValue.from(Tensor.fromBlobUnsigned(bytes, longArrayOf(1, HEIGHT.toLong(), WIDTH.toLong(), channels)))
}
