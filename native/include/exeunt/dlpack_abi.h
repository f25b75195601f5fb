/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of the DLPack ABI (major version 0/1, unmanaged tensors) that exeunt uses, for machines
 * without <dlpack/dlpack.h>. core.h includes the real header where there is one; the two describe
 * the same memory layout.
 */
#ifndef EXEUNT_DLPACK_ABI_H
#define EXEUNT_DLPACK_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { kDLCPU = 1, kDLCUDA = 2 } DLDeviceType;

typedef struct {
  DLDeviceType device_type;
  int32_t device_id;
} DLDevice;

typedef enum { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4 } DLDataTypeCode;

typedef struct {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} DLDataType;

typedef struct {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
} DLTensor;

#ifdef __cplusplus
}
#endif

#endif
