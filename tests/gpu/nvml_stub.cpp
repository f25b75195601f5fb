// SPDX-License-Identifier: Apache-2.0
// Stands in for NVIDIA's management library where there is no GPU: one device, with figures that
// tell which function gave them.
extern "C" {
#define STUB __attribute__((visibility("default"))) int
STUB nvmlInit_v2() { return 0; }
STUB nvmlDeviceGetHandleByPciBusId_v2(const char*, void**) { return 6; }
STUB nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  static int only;
  *device = &only;
  return index == 0 ? 0 : 6;
}
STUB nvmlDeviceGetClockInfo(void*, int kind, unsigned* megahertz) {
  *megahertz = kind == 1 ? 1755 : 2619;
  return 0;
}
STUB nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = 432500;
  return 0;
}
STUB nvmlDeviceGetTemperature(void*, int, unsigned* degrees) {
  *degrees = 61;
  return 0;
}
STUB nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {
  *reasons = 4;  // by the power cap
  return 0;
}
}
