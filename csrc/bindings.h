// Shared by the ops' bindings: how tensors, structs and enums come from Python, and the functions that fill
// siamfast._C.
//
// A struct comes as a Python NamedTuple with the same fields in the same order: a pybind11 class made from keywords
// costs three times as much (measured on a depthwise call's structs: 18 us against 5). `_C.RECORDS` and `_C.ENUMS` list
// fields and codes as C++ has them; tests/ops/test_records.py compares them with Python's.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "common/row_kernels.h"

namespace siamfast {

void bind_augment(pybind11::module_ &module);
void bind_balanced_logistic_loss(pybind11::module_ &module);
void bind_correspondence_warp(pybind11::module_ &module);
void bind_crop_and_resize(pybind11::module_ &module);
void bind_xcorr(pybind11::module_ &module);

template <class Owner, class Member>
struct Field {
    const char *name;
    Member Owner::*member;
};

template <class Owner, class Member>
constexpr Field<Owner, Member> field(const char *name, Member Owner::*member) {
    return {name, member};
}

// A binding specialises it for each struct that Python passes: `fields`, a tuple of Field, and `name`, where Python has
// it.
template <class T>
struct Record;

// A binding specialises it for each enum in such a struct: `name`, and `codes`, an array of pairs of name and value.
template <class Enum>
struct Codes;

template <>
struct Codes<Dtype> {
    static constexpr const char *name = "Dtype";
    static constexpr std::pair<const char *, Dtype> codes[] = {
        {"uint8", Dtype::u8}, {"float32", Dtype::f32}, {"bfloat16", Dtype::bf16}, {"float16", Dtype::f16}};
};

template <class T>
T load_number(PyObject *source, const char *name) {
    pybind11::detail::make_caster<T> caster;
    if (!caster.load(source, true)) throw std::invalid_argument(std::string("siamfast._C: wrong type of ") + name);
    return pybind11::detail::cast_op<T>(std::move(caster));
}

// A pointer comes as its address, an enum as its code.
template <class T>
T load_field(PyObject *source, const char *name) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(load_number<std::uintptr_t>(source, name));
    } else if constexpr (std::is_enum_v<T>) {
        const int code = load_number<int>(source, name);
        for (const auto &[known, value] : Codes<T>::codes)
            if (static_cast<int>(value) == code) return value;
        throw std::invalid_argument(std::string("siamfast._C: unknown ") + Codes<T>::name + " code");
    } else {
        return load_number<T>(source, name);
    }
}

template <class T, std::size_t... K>
void load_fields(PyObject *source, T &record, std::index_sequence<K...>) {
    constexpr auto &fields = Record<T>::fields;
    ((record.*std::get<K>(fields).member =
          load_field<std::remove_reference_t<decltype(record.*std::get<K>(fields).member)>>(
              PyTuple_GET_ITEM(source, static_cast<Py_ssize_t>(K)), std::get<K>(fields).name)),
     ...);
}

template <class T>
inline constexpr std::size_t field_count = std::tuple_size_v<std::remove_const_t<decltype(Record<T>::fields)>>;

template <class T>
bool load_record(PyObject *source, T &record) {
    constexpr std::size_t count = field_count<T>;
    if (!PyTuple_Check(source) || PyTuple_GET_SIZE(source) != static_cast<Py_ssize_t>(count)) return false;
    load_fields(source, record, std::make_index_sequence<count>());
    return true;
}

// Puts the record's fields into `_C.RECORDS`.
template <class T>
void list_record(pybind11::module_ &module) {
    module.attr("RECORDS")[Record<T>::name] =
        std::apply([](const auto &...fields) { return pybind11::make_tuple(fields.name...); }, Record<T>::fields);
}

// Puts the enum's codes into `_C.ENUMS`.
template <class Enum>
void list_enum(pybind11::module_ &module) {
    pybind11::dict codes;
    for (const auto &[name, value] : Codes<Enum>::codes) codes[name] = static_cast<int>(value);
    module.attr("ENUMS")[Codes<Enum>::name] = codes;
}

// The axes of a tensor, in PyTorch's order.
struct Nchw {
    std::int64_t n, c, y, x;
};
struct Ntchw {
    std::int64_t n, t, c, y, x;
};

template <>
struct Record<Nchw> {
    static constexpr auto fields =
        std::make_tuple(field("n", &Nchw::n), field("c", &Nchw::c), field("y", &Nchw::y), field("x", &Nchw::x));
};

template <>
struct Record<Ntchw> {
    static constexpr auto fields = std::make_tuple(field("n", &Ntchw::n), field("t", &Ntchw::t), field("c", &Ntchw::c),
                                                   field("y", &Ntchw::y), field("x", &Ntchw::x));
};

// A tensor or an array in the caller's memory; data is null where there is none. unit: bytes that a stride of 1 is.
template <class Axes>
struct Buffer {
    char *data;
    Dtype dtype;
    Axes shape, stride;
    std::int64_t unit;
};

template <class Axes>
struct Record<Buffer<Axes>> {
    static constexpr const char *name = "buffers.Buffer";
    static constexpr auto fields = std::make_tuple(
        field("data", &Buffer<Axes>::data), field("dtype", &Buffer<Axes>::dtype), field("shape", &Buffer<Axes>::shape),
        field("stride", &Buffer<Axes>::stride), field("unit", &Buffer<Axes>::unit));
};

// A side of a tensor as the ops count it.
inline int side(std::int64_t length) {
    if (length > INT32_MAX) throw std::invalid_argument("siamfast._C: a side of more than 2^31 - 1");
    return static_cast<int>(length);
}

template <class Axes>
void check_floating(const Buffer<Axes> &buffer) {
    if (buffer.dtype == Dtype::u8) throw std::invalid_argument("siamfast._C: unknown dtype code");
}

}  // namespace siamfast

namespace pybind11 {
namespace detail {

template <class T>
struct type_caster<T, std::void_t<decltype(siamfast::Record<T>::fields)>> {
    PYBIND11_TYPE_CASTER(T, const_name("NamedTuple"));

    bool load(handle source, bool) { return siamfast::load_record(source.ptr(), value); }
};

}  // namespace detail
}  // namespace pybind11
