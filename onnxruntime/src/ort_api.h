// SPDX-License-Identifier: Apache-2.0
// The part of ONNX Runtime's C interface that a plug-in needs, declared from its documentation
// (onnxruntime.ai/docs/api/c): no package that this build can fetch has the headers. The tables of
// functions only ever grow at their end, so a number below means one function in every release
// since the one that added it. What is not called by the tests of this module is not listed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

extern "C" {
struct OrtAllocator;
struct OrtCustomOpDomain;
struct OrtEnv;
struct OrtEpDevice;
struct OrtEpGraphSupportInfo;
struct OrtGraph;
struct OrtHardwareDevice;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtKernelRegistry;
struct OrtKeyValuePairs;
struct OrtLogger;
struct OrtMemoryDevice;
struct OrtMemoryInfo;
struct OrtNode;
struct OrtNodeComputeContext;
struct OrtOpAttr;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtSyncStreamImpl;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtValue;
struct OrtValueInfo;
struct OrtEp;
struct OrtEpFactory;
struct OrtCustomOp;

struct OrtApiBase {
  const void* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};
}

namespace exn::ort {

// The version of the interface that the structs below are of: that of ONNX Runtime 1.24, the first
// whose interface for plug-ins is final. Newer releases know it.
constexpr uint32_t kApiVersion = 24;

enum : int32_t {  // ONNXTensorElementDataType, the numbers of onnx.proto
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kBfloat16 = 16,
  kUint4 = 21,
  kInt4 = 22
};

enum : int32_t {
  kFail = 1,
  kInvalidArgument = 2,
  kNotImplemented = 9,
  kEpFail = 11
};  // OrtErrorCode
enum : int32_t {  // OrtOpAttrType
  kAttrInt = 1,
  kAttrInts,
  kAttrFloat,
  kAttrFloats,
  kAttrString,
  kAttrTensor = 8
};
enum : int32_t { kWarning = 2 };    // OrtLoggingLevel
enum : int32_t { kDeviceCpu = 0 };  // OrtHardwareDeviceType

// F(slot, result, name, arguments...), in order of the slots
#define EXN_ORT_API(F)                                                                           \
  F(0, OrtStatus*, CreateStatus, int32_t code, const char* message)                              \
  F(2, const char*, GetErrorMessage, const OrtStatus*)                                           \
  F(3, OrtStatus*, CreateEnv, int32_t level, const char* id, OrtEnv** out)                       \
  F(8, OrtStatus*, CreateSessionFromArray, const OrtEnv*, const void* model, size_t bytes,       \
    const OrtSessionOptions*, OrtSession** out)                                                  \
  F(9, OrtStatus*, Run, OrtSession*, const OrtRunOptions*, const char* const* input_names,       \
    const OrtValue* const* inputs, size_t input_count, const char* const* output_names,          \
    size_t output_count, OrtValue** outputs)                                                     \
  F(10, OrtStatus*, CreateSessionOptions, OrtSessionOptions** out)                               \
  F(24, OrtStatus*, SetIntraOpNumThreads, OrtSessionOptions*, int threads)                       \
  F(26, OrtStatus*, CreateCustomOpDomain, const char* name, OrtCustomOpDomain** out)             \
  F(27, OrtStatus*, CustomOpDomain_Add, OrtCustomOpDomain*, const OrtCustomOp*)                  \
  F(28, OrtStatus*, AddCustomOpDomain, OrtSessionOptions*, OrtCustomOpDomain*)                   \
  F(49, OrtStatus*, CreateTensorWithDataAsOrtValue, const OrtMemoryInfo*, void* data,            \
    size_t bytes, const int64_t* shape, size_t rank, int32_t type, OrtValue** out)               \
  F(51, OrtStatus*, GetTensorMutableData, OrtValue*, void** out)                                 \
  F(55, OrtStatus*, CastTypeInfoToTensorInfo, const OrtTypeInfo*,                                \
    const OrtTensorTypeAndShapeInfo** out)                                                       \
  F(60, OrtStatus*, GetTensorElementType, const OrtTensorTypeAndShapeInfo*, int32_t* out)        \
  F(61, OrtStatus*, GetDimensionsCount, const OrtTensorTypeAndShapeInfo*, size_t* out)           \
  F(62, OrtStatus*, GetDimensions, const OrtTensorTypeAndShapeInfo*, int64_t* out, size_t count) \
  F(69, OrtStatus*, CreateCpuMemoryInfo, int32_t allocator, int32_t memory, OrtMemoryInfo** out) \
  F(85, OrtStatus*, KernelInfoGetAttribute_float, const OrtKernelInfo*, const char* name,        \
    float* out)                                                                                  \
  F(86, OrtStatus*, KernelInfoGetAttribute_int64, const OrtKernelInfo*, const char* name,        \
    int64_t* out)                                                                                \
  F(87, OrtStatus*, KernelInfoGetAttribute_string, const OrtKernelInfo*, const char* name,       \
    char* out, size_t* size)                                                                     \
  F(90, OrtStatus*, KernelContext_GetInput, const OrtKernelContext*, size_t index,               \
    const OrtValue** out)                                                                        \
  F(91, OrtStatus*, KernelContext_GetOutput, OrtKernelContext*, size_t index,                    \
    const int64_t* shape, size_t rank, OrtValue** out)                                           \
  F(92, void, ReleaseEnv, OrtEnv*)                                                               \
  F(93, void, ReleaseStatus, OrtStatus*)                                                         \
  F(94, void, ReleaseMemoryInfo, OrtMemoryInfo*)                                                 \
  F(95, void, ReleaseSession, OrtSession*)                                                       \
  F(96, void, ReleaseValue, OrtValue*)                                                           \
  F(100, void, ReleaseSessionOptions, OrtSessionOptions*)                                        \
  F(101, void, ReleaseCustomOpDomain, OrtCustomOpDomain*)                                        \
  F(272, OrtStatus*, ReadOpAttr, const OrtOpAttr*, int32_t type, void* data, size_t bytes,       \
    size_t* out)                                                                                 \
  F(274, OrtStatus*, KernelContext_ParallelFor, const OrtKernelContext*,                         \
    void (*body)(void*, size_t), size_t count, size_t batches, void* data)                       \
  F(289, OrtStatus*, GetValueInfoName, const OrtValueInfo*, const char** out)                    \
  F(290, OrtStatus*, GetValueInfoTypeInfo, const OrtValueInfo*, const OrtTypeInfo** out)         \
  F(298, void, GetKeyValuePairs, const OrtKeyValuePairs*, const char* const** keys,              \
    const char* const** values, size_t* count)                                                   \
  F(300, void, ReleaseKeyValuePairs, OrtKeyValuePairs*)                                          \
  F(307, int32_t, HardwareDevice_Type, const OrtHardwareDevice*)                                 \
  F(317, const void*, GetEpApi)                                                                  \
  F(318, OrtStatus*, GetTensorSizeInBytes, const OrtValue*, size_t* out)                         \
  F(326, OrtStatus*, ValueInfo_GetInitializerValue, const OrtValueInfo*, const OrtValue** out)   \
  F(331, OrtStatus*, ValueInfo_IsConstantInitializer, const OrtValueInfo*, bool* out)            \
  F(336, OrtStatus*, Graph_GetNumOperatorSets, const OrtGraph*, size_t* out)                     \
  F(337, OrtStatus*, Graph_GetOperatorSets, const OrtGraph*, const char** domains,               \
    int64_t* versions, size_t count)                                                             \
  F(340, OrtStatus*, Graph_GetNumOutputs, const OrtGraph*, size_t* out)                          \
  F(341, OrtStatus*, Graph_GetOutputs, const OrtGraph*, const OrtValueInfo** out, size_t count)  \
  F(344, OrtStatus*, Graph_GetNumNodes, const OrtGraph*, size_t* out)                            \
  F(345, OrtStatus*, Graph_GetNodes, const OrtGraph*, const OrtNode** out, size_t count)         \
  F(346, OrtStatus*, Graph_GetParentNode, const OrtGraph*, const OrtNode** out)                  \
  F(349, OrtStatus*, Node_GetName, const OrtNode*, const char** out)                             \
  F(350, OrtStatus*, Node_GetOperatorType, const OrtNode*, const char** out)                     \
  F(351, OrtStatus*, Node_GetDomain, const OrtNode*, const char** out)                           \
  F(353, OrtStatus*, Node_GetNumInputs, const OrtNode*, size_t* out)                             \
  F(354, OrtStatus*, Node_GetInputs, const OrtNode*, const OrtValueInfo** out, size_t count)     \
  F(355, OrtStatus*, Node_GetNumOutputs, const OrtNode*, size_t* out)                            \
  F(356, OrtStatus*, Node_GetOutputs, const OrtNode*, const OrtValueInfo** out, size_t count)    \
  F(357, OrtStatus*, Node_GetNumImplicitInputs, const OrtNode*, size_t* out)                     \
  F(358, OrtStatus*, Node_GetImplicitInputs, const OrtNode*, const OrtValueInfo** out,           \
    size_t count)                                                                                \
  F(359, OrtStatus*, Node_GetNumAttributes, const OrtNode*, size_t* out)                         \
  F(360, OrtStatus*, Node_GetAttributes, const OrtNode*, const OrtOpAttr** out, size_t count)    \
  F(362, OrtStatus*, OpAttr_GetTensorAttributeAsOrtValue, const OrtOpAttr*, OrtValue** out)      \
  F(363, OrtStatus*, OpAttr_GetType, const OrtOpAttr*, int32_t* out)                             \
  F(364, OrtStatus*, OpAttr_GetName, const OrtOpAttr*, const char** out)                         \
  F(378, OrtStatus*, GetTensorData, const OrtValue*, const void** out)                           \
  F(379, OrtStatus*, GetSessionOptionsConfigEntries, const OrtSessionOptions*,                   \
    OrtKeyValuePairs** out)                                                                      \
  F(414, OrtStatus*, GetTensorElementTypeAndShapeDataReference, const OrtValue*, int32_t* type,  \
    const int64_t** shape, size_t* rank)

struct OrtNodeFusionOptions {
  uint32_t ort_version_supported;
  bool drop_constant_initializers;
};

#define EXN_ORT_EP_API(F)                                                                 \
  F(0, OrtStatus*, CreateEpDevice, OrtEpFactory*, const OrtHardwareDevice*,               \
    const OrtKeyValuePairs* metadata, const OrtKeyValuePairs* options, OrtEpDevice** out) \
  F(2, OrtStatus*, EpGraphSupportInfo_AddNodesToFuse, OrtEpGraphSupportInfo*,             \
    const OrtNode* const* nodes, size_t count, const OrtNodeFusionOptions*)

// The functions of one table under their names.
struct Api {
#define EXN_MEMBER(slot, result, name, ...) result (*name)(__VA_ARGS__);
  EXN_ORT_API(EXN_MEMBER)
  EXN_ORT_EP_API(EXN_MEMBER)
#undef EXN_MEMBER

  // `table`: what GetApi(kApiVersion) returned.
  explicit Api(const void* table) {
    const auto* slots = static_cast<const void* const*>(table);
#define EXN_LOAD(slot, result, name, ...) \
  name = reinterpret_cast<decltype(name)>(const_cast<void*>(slots[slot]));
    EXN_ORT_API(EXN_LOAD)
    slots = static_cast<const void* const*>(GetEpApi());
    EXN_ORT_EP_API(EXN_LOAD)
#undef EXN_LOAD
  }
};

}  // namespace exn::ort

// What ONNX Runtime calls: structs as far as version 24 has them. A function that is null is one
// that the provider does without.
extern "C" {
struct OrtNodeComputeInfo {
  uint32_t ort_version_supported;
  OrtStatus* (*CreateState)(OrtNodeComputeInfo*, OrtNodeComputeContext*, void** state);
  OrtStatus* (*Compute)(OrtNodeComputeInfo*, void* state, OrtKernelContext*);
  void (*ReleaseState)(OrtNodeComputeInfo*, void* state);
};

struct OrtEp {
  uint32_t ort_version_supported;
  const char* (*GetName)(const OrtEp*);
  OrtStatus* (*GetCapability)(OrtEp*, const OrtGraph*, OrtEpGraphSupportInfo*);
  OrtStatus* (*Compile)(OrtEp*, const OrtGraph** graphs, const OrtNode** fused, size_t count,
                        OrtNodeComputeInfo** infos, OrtNode** context_nodes);
  void (*ReleaseNodeComputeInfos)(OrtEp*, OrtNodeComputeInfo** infos, size_t count);
  OrtStatus* (*GetPreferredDataLayout)(OrtEp*, int32_t* layout);
  OrtStatus* (*ShouldConvertDataLayoutForOp)(OrtEp*, const char* domain, const char* op,
                                             int32_t layout, int* convert);
  OrtStatus* (*SetDynamicOptions)(OrtEp*, const char* const* keys, const char* const* values,
                                  size_t count);
  OrtStatus* (*OnRunStart)(OrtEp*, const OrtRunOptions*);
  OrtStatus* (*OnRunEnd)(OrtEp*, const OrtRunOptions*, bool synchronise);
  OrtStatus* (*CreateAllocator)(OrtEp*, const OrtMemoryInfo*, OrtAllocator** out);
  OrtStatus* (*CreateSyncStreamForDevice)(OrtEp*, const OrtMemoryDevice*, OrtSyncStreamImpl** out);
  const char* (*GetCompiledModelCompatibilityInfo)(OrtEp*, const OrtGraph*);
  OrtStatus* (*GetKernelRegistry)(OrtEp*, const OrtKernelRegistry** out);
  OrtStatus* (*IsConcurrentRunSupported)(OrtEp*, bool* out);
};

struct OrtEpFactory {
  uint32_t ort_version_supported;
  const char* (*GetName)(const OrtEpFactory*);
  const char* (*GetVendor)(const OrtEpFactory*);
  OrtStatus* (*GetSupportedDevices)(OrtEpFactory*, const OrtHardwareDevice* const* devices,
                                    size_t count, OrtEpDevice** out, size_t room, size_t* found);
  OrtStatus* (*CreateEp)(OrtEpFactory*, const OrtHardwareDevice* const* devices,
                         const OrtKeyValuePairs* const* metadata, size_t count,
                         const OrtSessionOptions*, const OrtLogger*, OrtEp** out);
  void (*ReleaseEp)(OrtEpFactory*, OrtEp*);
  uint32_t (*GetVendorId)(const OrtEpFactory*);
  const char* (*GetVersion)(const OrtEpFactory*);
  OrtStatus* (*ValidateCompiledModelCompatibilityInfo)(OrtEpFactory*,
                                                       const OrtHardwareDevice* const* devices,
                                                       size_t count, const char* info,
                                                       int32_t* compatibility);
  OrtStatus* (*CreateAllocator)(OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*,
                                OrtAllocator** out);
  void (*ReleaseAllocator)(OrtEpFactory*, OrtAllocator*);
  OrtStatus* (*CreateDataTransfer)(OrtEpFactory*, void** out);
  bool (*IsStreamAware)(const OrtEpFactory*);
  OrtStatus* (*CreateSyncStreamForDevice)(OrtEpFactory*, const OrtMemoryDevice*,
                                          const OrtKeyValuePairs*, OrtSyncStreamImpl** out);
  OrtStatus* (*GetHardwareDeviceIncompatibilityDetails)(OrtEpFactory*, const OrtHardwareDevice*,
                                                        void* details);
  OrtStatus* (*CreateExternalResourceImporterForDevice)(OrtEpFactory*, const OrtEpDevice*,
                                                        void** out);
  OrtStatus* (*GetNumCustomOpDomains)(OrtEpFactory*, size_t* out);
  OrtStatus* (*GetCustomOpDomains)(OrtEpFactory*, OrtCustomOpDomain** domains, size_t count);
};

struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const void* api, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int32_t (*GetInputType)(const OrtCustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int32_t (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int32_t (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  int32_t (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  int32_t (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const void* api, const OrtKernelInfo*,
                               void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
}

static_assert(offsetof(OrtEp, IsConcurrentRunSupported) == 14 * sizeof(void*));
static_assert(offsetof(OrtEpFactory, GetCustomOpDomains) == 17 * sizeof(void*));
static_assert(offsetof(OrtCustomOp, ReleaseAliasMap) == 25 * sizeof(void*));
