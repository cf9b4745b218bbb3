// The inner loops of the logistic loss: labels of a map, and loss and slope of its cells.
#pragma once

namespace siamfast {

// What a cell weighs by its label: 1 (positive), 0 (negative), between them (neutral); all others, -1 above all,
// nothing.
struct CellWeights {
    float positive, negative, neutral;
};

// Radii and stride in input pixels, centres in cells; l2: Euclid's distance, else city-block.
struct LabelRule {
    float stride, r_pos, r_far, between;
    bool l2;
};

struct LossKernels {
    // out (height, width): 1 within r_pos of the centre, 0 beyond r_far, `between` in between.
    void (*labels)(const LabelRule &rule, float center_y, float center_x, int height, int width, float *out);
    // How many of the labels are 1 and how many 0.
    void (*count)(const float *labels, int cells, int *positives, int *negatives);
    // The sum of weight * (max(s, 0) - s * y + log(1 + exp(-|s|))), and its derivative by every s. A cell of weight 0
    // counts for nothing, nan or not.
    float (*cells)(const float *scores, const float *labels, int cells, const CellWeights &weights, float *slope);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const LossKernels &loss_kernels();

}  // namespace siamfast
