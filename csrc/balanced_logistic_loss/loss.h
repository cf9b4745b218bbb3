// SiamFC's balanced logistic loss on the CPU: labels, loss and slope in one pass over the scores.
#pragma once

#include <cstdint>

#include "balanced_logistic_loss/kernels.h"
#include "common/row_kernels.h"

namespace siamfast {

// Whose positives and negatives are counted: each sample's, the batch's, or nobody's (all labelled cells weigh alike).
enum class Balance : int { sample = 0, batch = 1, cells = 2 };

struct LossCall {
    LabelRule rule;
    Balance balance;
    float neg_weight, neutral_weight;
    bool total;    // one number: the sum of all samples' losses
    float factor;  // of every loss: 1 / samples for a mean
    int threads;
};

// scores (samples, height, width) contiguous float32, bfloat16 or float16. labels: float32 (samples, height, width), or
// one map for all, or null: made by the rule about `centers` (samples, 2: x, y in cells), null for the middle.
// losses: 1 number or one per sample; slope (samples, height, width): the derivative of the losses' sum by the scores.
struct LossMaps {
    std::int64_t samples;
    int height, width;
    Dtype dtype;  // of the scores
    const char *scores;
    const float *labels;
    bool one_map;  // of labels
    const float *centers;
    float *losses, *slope;
};

void balanced_logistic_loss(const LossCall &call, const LossMaps &maps);

}  // namespace siamfast
