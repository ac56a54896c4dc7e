//! shoal query: asks PromQL and prints the answer.
