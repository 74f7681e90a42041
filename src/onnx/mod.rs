//! ONNX graphs as data: read, build, infer shapes, differentiate, and extend to an attack graph.
