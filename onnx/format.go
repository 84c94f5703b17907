package onnx

import "bytes"

// formats are the beginnings of files that are taken for models by mistake.
var formats = []struct {
	at    int
	magic string
	what  string
}{
	{0, "\x89PNG\r\n\x1a\n", "found a PNG picture"},
	{0, "\xff\xd8\xff", "found a JPEG picture"},
	{0, "GIF8", "found a GIF picture"},
	{8, "WEBP", "found a WebP picture"},
	{0, "II*\x00", "found a TIFF picture"},
	{0, "MM\x00*", "found a TIFF picture"},
	{4, "ftyp", "found an MP4 video"},
	{0, "version https://git-lfs", "found a Git LFS pointer: fetch the file itself with `git lfs pull`"},
	{0, "PK\x03\x04", "found a ZIP archive (a PyTorch or Keras model, perhaps: export it)"},
	{0, "\x28\xb5\x2f\xfd", "found a Zstandard archive: unpack it"},
	{0, "\x1f\x8b", "found a gzip archive: unpack it"},
	{0, "\x89HDF\r\n", "found an HDF5 file (a Keras model, perhaps: export it with tf2onnx)"},
	{4, "TFL3", "found a TensorFlow Lite model: convert it with tf2onnx"},
	{0, "ptrt", "found a TensorRT engine: engines are built on the device, from the ONNX model"},
	{0, "ftrt", "found a TensorRT engine: engines are built on the device, from the ONNX model"},
	{0, "TRT-", "found a calibration cache"},
	{4, "ORTM", "found a model in ONNX Runtime's own format"},
	{0, "\x7fELF", "found a program"},
	{0, "<!DOCTYPE", "found a web page: the download went wrong"},
	{0, "<html", "found a web page: the download went wrong"},
	{0, "{", "found JSON text"},
}

// otherFormat says what b is, where that is known and no model. "" otherwise.
func otherFormat(b []byte) string {
	if len(b) == 0 {
		return "the file is empty"
	}
	for _, f := range formats {
		if len(b) > f.at && bytes.HasPrefix(b[f.at:], []byte(f.magic)) {
			return f.what
		}
	}
	if len(bytes.TrimLeft(b[:min(len(b), 4096)], "\x00")) == 0 {
		return "the file starts with nothing but zero bytes: it wasn't written to the end"
	}
	return ""
}
