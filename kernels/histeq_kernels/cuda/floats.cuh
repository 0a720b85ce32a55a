// Floating pixels: float16, float32 and float64 under one set of names, with NumPy's rounding.

// float16 by its bits: no header is needed for it, and no device lacks it.
struct Half {
    u16 bits;
};

__device__ __forceinline__ float from_half(u16 bits) {
    const u32 sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
    if (exponent == 0) {
        const float size = multiply(__ll2float_rn(fraction), 5.9604644775390625e-8f);  // 2^-24
        return __uint_as_float(sign | __float_as_uint(size));
    }
    const u32 wide = exponent == 31 ? 255u : exponent + 112u;
    return __uint_as_float(sign | wide << 23 | fraction << 13);
}

// To the nearest half, ties to even.
__device__ __forceinline__ u16 to_half(double value) {
    const u64 bits = static_cast<u64>(__double_as_longlong(value));
    const u16 sign = static_cast<u16>(bits >> 48 & 0x8000u);
    const double size = value < 0 ? -value : value;
    if (!(size == size)) return 0x7e00u;
    if (size >= 65520.0) return sign | 0x7c00u;
    if (size < 6.103515625e-05)  // 2^-14: below, halves are multiples of 2^-24
        return static_cast<u16>(sign | __double2ll_rn(multiply(size, 16777216.0)));
    const i64 exponent = static_cast<i64>(bits >> 52 & 0x7ffu) - 1023;
    const double scale = __longlong_as_double((1023 + 10 - exponent) << 52);
    return static_cast<u16>(sign + ((exponent + 15) << 10) + (__double2ll_rn(multiply(size, scale)) - 1024));
}

// Value: what a pixel computes in; Fraction: the dtype of skimage's result.
template <class T> struct Number;

template <> struct Number<Half> {
    typedef float Value;
    typedef float Fraction;
    static __device__ __forceinline__ float load(const void* at) { return from_half(*static_cast<const u16*>(at)); }
    static __device__ __forceinline__ Half store(double value) { return Half{to_half(value)}; }
    static __device__ __forceinline__ float rounded(float value) { return from_half(to_half(widen(value))); }
    static __device__ __forceinline__ float value(double number) { return narrow(number); }
};
template <> struct Number<float> {
    typedef float Value;
    typedef float Fraction;
    static __device__ __forceinline__ float load(const void* at) { return *static_cast<const float*>(at); }
    static __device__ __forceinline__ float store(double value) { return narrow(value); }
    static __device__ __forceinline__ float rounded(float value) { return value; }
    static __device__ __forceinline__ float value(double number) { return narrow(number); }
};
template <> struct Number<double> {
    typedef double Value;
    typedef double Fraction;
    static __device__ __forceinline__ double load(const void* at) { return *static_cast<const double*>(at); }
    static __device__ __forceinline__ double store(double value) { return value; }
    static __device__ __forceinline__ double rounded(double value) { return value; }
    static __device__ __forceinline__ double value(double number) { return number; }
};
