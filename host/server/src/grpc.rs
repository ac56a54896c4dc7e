//! gRPC for receivers: carries the bytes of unary calls, knows no message. The only module that knows tonic.
