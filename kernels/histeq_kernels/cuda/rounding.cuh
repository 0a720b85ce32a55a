// Arithmetic that rounds as IEEE says, one operation at a time, never contracted to a fused multiply-add.
//
// CuPy compiles with -ftz=true, which turns float32 numbers below 1.2e-38 into 0: in __fadd_rn, in comparisons and
// in conversions to double too. An image may hold such numbers, so that float32 has its instructions by name here,
// which the option does not reach.

#ifdef __CUDACC__
#define FLOAT_OPERATION(NAME, PTX)                                   \
    __device__ __forceinline__ float NAME(float a, float b) {        \
        float result;                                                \
        asm(PTX " %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));     \
        return result;                                               \
    }
FLOAT_OPERATION(add, "add.rn.f32")
FLOAT_OPERATION(subtract, "sub.rn.f32")
FLOAT_OPERATION(multiply, "mul.rn.f32")
FLOAT_OPERATION(divide, "div.rn.f32")
__device__ __forceinline__ bool less(float a, float b) {
    int result;
    asm("{ .reg .pred less; setp.lt.f32 less, %1, %2; selp.s32 %0, 1, 0, less; }"
        : "=r"(result) : "f"(a), "f"(b));
    return result;
}
__device__ __forceinline__ double widen(float value) {
    double result;
    asm("cvt.f64.f32 %0, %1;" : "=d"(result) : "f"(value));
    return result;
}
__device__ __forceinline__ float narrow(double value) {
    float result;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(result) : "d"(value));
    return result;
}
#else  // g++ flushes nothing
__device__ __forceinline__ float add(float a, float b) { return a + b; }
__device__ __forceinline__ float subtract(float a, float b) { return a - b; }
__device__ __forceinline__ float multiply(float a, float b) { return a * b; }
__device__ __forceinline__ float divide(float a, float b) { return a / b; }
__device__ __forceinline__ bool less(float a, float b) { return a < b; }
__device__ __forceinline__ double widen(float value) { return value; }
__device__ __forceinline__ float narrow(double value) { return static_cast<float>(value); }
#endif

__device__ __forceinline__ double add(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double subtract(double a, double b) { return __dsub_rn(a, b); }
__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double divide(double a, double b) { return __ddiv_rn(a, b); }
__device__ __forceinline__ bool less(double a, double b) { return a < b; }
__device__ __forceinline__ double widen(double value) { return value; }
