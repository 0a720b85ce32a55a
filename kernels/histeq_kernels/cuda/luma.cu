// Equalize the luma of colour images, in OpenCV's 8- and 16-bit YCrCb (cvtColor): whole numbers with 14
// fractional bits. Cr and Cb depend on the pixel alone, so that one pass goes from RGB to RGB.
//
// Layout: planes is 1, the plane strides lead from red to green to blue. Grid: as histogram.cu and lut.cu.

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
    __device__ __forceinline__ Wide luma() const {
        return (4899 * red + 9617 * green + 1868 * blue + HALF) >> 14;
    }
    static __device__ __forceinline__ Wide limited(Wide value) {
        return value < 0 ? 0 : value > TOP ? TOP : value;
    }
    // Send the luma through the table; keep Cr and Cb.
    __device__ __forceinline__ void replace_luma(const T* table) {
        const Wide y = luma();
        const Wide cr = limited((11682 * (red - y) + (CENTRE << 14) + HALF) >> 14) - CENTRE;
        const Wide cb = limited((9241 * (blue - y) + (CENTRE << 14) + HALF) >> 14) - CENTRE;
        const Wide level = __ldg(table + y);
        red = limited(level + ((22987 * cr + HALF) >> 14));
        green = limited(level + ((-5636 * cb - 11698 * cr + HALF) >> 14));
        blue = limited(level + ((29049 * cb + HALF) >> 14));
    }
};

template <class T, class Counters>
__device__ __forceinline__ void histogram_luma(const Layout& at, const char* image, const u8* mask, i64 nodata,
                                               Counters counters, const Rule& rule, const Results& results) {
    count_planes(at, counters, rule, results, [&](const Plane& plane, auto add) {
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = mask == nullptr ? nullptr : mask + plane.image * at.mask.image;
        each_pixel<false>(at, masked, [&](i64 from, i64, bool counted) {
            const Pixel<T> pixel(pixels + from, at.image.plane);
            if (counted && !pixel.is(nodata)) add(static_cast<u32>(pixel.luma()));
        });
    });
}

template <class T>
__device__ __forceinline__ void apply_luma(const Layout& at, const char* image, const T* tables, i64 to_next_table,
                                           i64 nodata, char* out) {
    for (i64 index = blockIdx.y; index < at.images; index += gridDim.y) {
        const T* const table = tables + index * to_next_table;
        each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) {
            Pixel<T> pixel(image + index * at.image.image + from, at.image.plane);
            if (!pixel.is(nodata)) pixel.replace_luma(table);
            pixel.store(out + index * at.out.image + to, at.out.plane);
        });
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
histogram_luma_u8(Layout at, const char* image, const u8* mask, i64 nodata,
                   const __grid_constant__ Rule rule, Results results) {
    histogram_luma<u8>(at, image, mask, nodata, counters_u8(), rule, results);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
histogram_luma_u16(Layout at, const char* image, const u8* mask, i64 nodata,
                   const __grid_constant__ Rule rule, Results results) {
    histogram_luma<u16>(at, image, mask, nodata, counters_u16(at, WARP * SINGLES), rule, results);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_luma_u8(Layout at, const char* image, const u8* tables, i64 to_next_table, i64 nodata, char* out) {
    apply_luma<u8>(at, image, tables, to_next_table, nodata, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_luma_u16(Layout at, const char* image, const u16* tables, i64 to_next_table, i64 nodata, char* out) {
    apply_luma<u16>(at, image, tables, to_next_table, nodata, out);
}
