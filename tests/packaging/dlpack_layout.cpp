// SPDX-License-Identifier: Apache-2.0
// exeunt/dlpack_abi.h stands in where DLPack's own header is missing. Both must describe the same
// memory: this file compiles only if they do.
#include <dlpack/dlpack.h>

#include <cstddef>

namespace own {
#include <exeunt/dlpack_abi.h>
}

#define SAME_FIELD(type, field)                                                       \
  static_assert(offsetof(::type, field) == offsetof(own::type, field), #type #field); \
  static_assert(sizeof(::type::field) == sizeof(own::type::field), #type #field)

static_assert(sizeof(::DLTensor) == sizeof(own::DLTensor));
SAME_FIELD(DLTensor, data);
SAME_FIELD(DLTensor, device);
SAME_FIELD(DLTensor, ndim);
SAME_FIELD(DLTensor, dtype);
SAME_FIELD(DLTensor, shape);
SAME_FIELD(DLTensor, strides);
SAME_FIELD(DLTensor, byte_offset);
SAME_FIELD(DLDevice, device_type);
SAME_FIELD(DLDevice, device_id);
SAME_FIELD(DLDataType, code);
SAME_FIELD(DLDataType, bits);
SAME_FIELD(DLDataType, lanes);

static_assert(int{::kDLCPU} == int{own::kDLCPU} && int{::kDLCUDA} == int{own::kDLCUDA});
static_assert(int{::kDLInt} == int{own::kDLInt} && int{::kDLUInt} == int{own::kDLUInt});
static_assert(int{::kDLFloat} == int{own::kDLFloat} && int{::kDLBfloat} == int{own::kDLBfloat});
