// Map floating images: every pixel through its plane's table, interpolated between the centres of the bins.
//
// Grid: x parts of a plane, y planes (in steps of gridDim.y). `nodata` NaN: none.

// What np.interp needs of a bin: its centre, the table's level there, and the slope to the next.
struct Point {
    double centre, level, slope;
};

template <class T>
__device__ __forceinline__ void points_of(const T* edges, i64 count, i64 planes, i64 planes_in_image,
                                          const Tables& tables, Point* points) {
    typedef typename Number<T>::Fraction Fraction;
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < planes * count; i += step) {
        const i64 index = i / count, bin = i - index * count;
        const Fraction* const table = tables.of<Fraction>(Plane(index, planes_in_image));
        const Bins<T> bins(edges + index * (count + 1), count);
        Point point{bins.centre(bin), widen(table[bin]), 0};
        if (bin + 1 < count)
            point.slope = divide(subtract(widen(table[bin + 1]), point.level),
                                 subtract(bins.centre(bin + 1), point.centre));
        points[i] = point;
    }
}

// np.interp between a point and the next.
__device__ __forceinline__ double between(double x, const Point& left, const Point& right) {
    if (x == left.centre) return left.level;
    double y = add(multiply(left.slope, subtract(x, left.centre)), left.level);
    if (y != y) y = add(multiply(left.slope, subtract(x, right.centre)), right.level);
    return y != y && left.level == right.level ? left.level : y;
}

// Map every pixel through its plane's points. NaN, infinities and nodata pass; what would become nodata becomes
// `beside`.
template <class T>
__device__ __forceinline__ void apply_interpolated(const Layout& at, const char* image, double nodata, double beside,
                                                   const T* edges, i64 count, const Point* all_points, char* out) {
    typedef typename Number<T>::Fraction Fraction;
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        const Point* const points = all_points + index * count;
        const Bins<T> bins(edges + index * (count + 1), count);
        const bool unchanged = points[0].level != points[0].level;  // nothing was counted
        const Point first = points[0], last = points[count - 1];
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        const auto level_of = [&](typename Number<T>::Value pixel) {
            const double value = widen(pixel);
            double level = value;
            if (!unchanged && is_finite(value) && value != nodata) {
                if (value < first.centre) {
                    level = first.level;
                } else if (value >= last.centre) {
                    level = last.level;
                } else {
                    i64 left = bins.guess(pixel);
                    if (left > 0 && value < points[left].centre) --left;
                    if (value >= points[left + 1].centre) ++left;
                    if (value < points[left].centre || value >= points[left + 1].centre) {
                        left = bins.search(pixel);  // bins are as narrow as the precision
                        if (value < points[left].centre) --left;
                    }
                    level = between(value, points[left], points[left + 1]);
                }
                if (widen(Number<Fraction>::store(level)) == nodata) level = beside;
            }
            return Number<Fraction>::store(level);
        };
        const auto change = [&](i64 from, i64 to) {
            *reinterpret_cast<Fraction*>(targets + to) = level_of(Number<T>::load(pixels + from));
        };
        if (at.image.column != sizeof(T) || at.out.column != sizeof(Fraction)) {
            for_each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) { change(from, to); });
            continue;
        }
        for_each_group<true, T, 1>(
            at, pixels,
            [&](const RowOffsets& row, i64 x) {
                Vector<T> loaded;
                loaded.whole = *reinterpret_cast<const uint4*>(pixels + row.image + x * sizeof(T));
                Fraction* const to = reinterpret_cast<Fraction*>(targets + row.out) + x;
#pragma unroll
                for (int e = 0; e < IN_VECTOR<T>; ++e) to[e] = level_of(Number<T>::load(&loaded.element[e]));
            },
            [&](const RowOffsets& row, i64 x) {
                change(row.image + x * sizeof(T), row.out + x * sizeof(Fraction));
            });
    }
}

#define FLOATING(NAME, T)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    points_##NAME(const T* edges, i64 bins, i64 planes, i64 planes_in_image, Tables tables,                 \
                  Point* points) {                                                                          \
        points_of<T>(edges, bins, planes, planes_in_image, tables, points);                                 \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    apply_interpolated_##NAME(Layout at, const char* image, double nodata, double beside, const T* edges,   \
                              i64 bins, const Point* points, char* out) {                                   \
        apply_interpolated<T>(at, image, nodata, beside, edges, bins, points, out);                         \
    }

FLOATING(f16, Half)
FLOATING(f32, float)
FLOATING(f64, double)
