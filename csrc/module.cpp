// The Python module siamfast._C, put together from the ops' bindings.
#include <pybind11/pybind11.h>

#include "bindings.h"
#include "common/isa.h"

PYBIND11_MODULE(_C, module, pybind11::mod_gil_not_used()) {
    module.doc() = "siamfast's C++ kernels on raw buffers; use siamfast.ops instead";
    module.attr("RECORDS") = pybind11::dict();
    module.attr("ENUMS") = pybind11::dict();
    siamfast::list_enum<siamfast::Dtype>(module);
    siamfast::list_record<siamfast::Buffer<siamfast::Nchw>>(module);
    siamfast::bind_augment(module);
    siamfast::bind_balanced_logistic_loss(module);
    siamfast::bind_correspondence_warp(module);
    siamfast::bind_crop_and_resize(module);
    siamfast::bind_xcorr(module);
    module.def("cpu_path", [] { return siamfast::isa_name(siamfast::chosen_isa()); });
}
