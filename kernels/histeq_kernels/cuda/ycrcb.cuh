// A pixel in OpenCV's 8- and 16-bit YCrCb (cvtColor): whole numbers with 14 fractional bits. Cr and Cb depend on the
// pixel alone, so that one pass goes from RGB to RGB.

// Sums of 16-bit channels need more than 32 bits.
template <class T> struct WideOf { typedef i64 type; };
template <> struct WideOf<u8> { typedef int type; };

template <class T>
struct Pixel {
    typedef typename WideOf<T>::type Wide;
    static constexpr Wide HALF = 1 << 13;
    static constexpr Wide TOP = static_cast<T>(-1);
    static constexpr Wide CENTRE = (TOP + 1) / 2;
    Wide red, green, blue;

    __device__ __forceinline__ Pixel(T r, T g, T b) : red(r), green(g), blue(b) {}
    __device__ __forceinline__ Pixel(const char* at, i64 to_next)
        : red(*reinterpret_cast<const T*>(at)),
          green(*reinterpret_cast<const T*>(at + to_next)),
          blue(*reinterpret_cast<const T*>(at + 2 * to_next)) {}
    __device__ __forceinline__ void store(char* at, i64 to_next) const {
        *reinterpret_cast<T*>(at) = static_cast<T>(red);
        *reinterpret_cast<T*>(at + to_next) = static_cast<T>(green);
        *reinterpret_cast<T*>(at + 2 * to_next) = static_cast<T>(blue);
    }
    __device__ __forceinline__ bool is(i64 value) const {
        return red == value && green == value && blue == value;
    }
    __device__ __forceinline__ void fill(i64 value) { red = green = blue = static_cast<Wide>(value); }
    __device__ __forceinline__ Wide luma() const {
        return (4899 * red + 9617 * green + 1868 * blue + HALF) >> 14;
    }
    static __device__ __forceinline__ Wide limited(Wide value) {
        return value < 0 ? 0 : value > TOP ? TOP : value;
    }
    // Give the pixel, whose luma is y, another one; keep Cr and Cb.
    __device__ __forceinline__ void change_luma(Wide y, Wide level) {
        const Wide cr = limited((11682 * (red - y) + (CENTRE << 14) + HALF) >> 14) - CENTRE;
        const Wide cb = limited((9241 * (blue - y) + (CENTRE << 14) + HALF) >> 14) - CENTRE;
        red = limited(level + ((22987 * cr + HALF) >> 14));
        green = limited(level + ((-5636 * cb - 11698 * cr + HALF) >> 14));
        blue = limited(level + ((29049 * cb + HALF) >> 14));
    }
};
