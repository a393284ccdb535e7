#pragma once

/// LoRA, OFT and HRA in double, from raw values on the host: what the contestants are checked
/// against. Shares nothing with them but those values.

#include "reference.hpp"

namespace bench {

/// y += (x A^T) B^T; a (rank, in), b (out, rank).
RowOracle lora_oracle(std::vector<double> a, std::vector<double> b, Index rank);

/// x <- x diag(H_1, ..., H_n), H_i (I - S_i) = I + S_i, S_i = (R_i - R_i^T) / 2; r (in, size).
RowOracle oft_oracle(std::vector<double> r, Index size);

/// x <- x H_r ... H_1, H_k = I - 2 u_k u_k^T / |u_k|^2; u (rank, in).
RowOracle hra_oracle(std::vector<double> u, Index rank);

}  // namespace bench
