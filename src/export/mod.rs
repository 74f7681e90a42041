//! Trained weights to ONNX files, with a proof that both compute the same (feature `train`).
