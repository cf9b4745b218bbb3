// How each op adds its functions to siamfast._C: raw addresses and numbers in, nothing of torch. Callers check arguments.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace siamfast {

void bind_augment(pybind11::module_ &module);
void bind_balanced_logistic_loss(pybind11::module_ &module);
void bind_correspondence_warp(pybind11::module_ &module);
void bind_crop_and_resize(pybind11::module_ &module);
void bind_xcorr(pybind11::module_ &module);

inline float *floats(std::uintptr_t address) { return reinterpret_cast<float *>(address); }

}  // namespace siamfast
