// Floating images: the range of the values, the edges of the bins, the counts, and the interpolated table.
//
// Grid: x parts of a plane, y planes (walked in steps of gridDim.y). `nodata` NaN: none.

// A double as an integer of the same order, never 0: what the keys of `extremes` start from.
__device__ __forceinline__ u64 ordered(double value) {
    const u64 bits = static_cast<u64>(__double_as_longlong(value));
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}
__device__ __forceinline__ double from_ordered(u64 key) {
    return __longlong_as_double(static_cast<i64>(key >> 63 ? key & ~(1ull << 63) : ~key));
}

// Call visit(pixel, counted) for this block's share of the pixels of one plane: vectors at a time, where they lie
// side by side.
template <class T, class Visit>
__device__ __forceinline__ void each_number(const Layout& at, const char* pixels, const u8* mask, Visit visit) {
    if (at.image.column != sizeof(T)) {
        each_pixel<false>(at, mask, [&](i64 from, i64, bool counted) {
            visit(Number<T>::load(pixels + from), counted);
        });
        return;
    }
    const auto counted = [&](const LineAt& line, i64 x) {
        return mask == nullptr || mask[line.mask + x * at.mask.column] != 0;
    };
    each_group<false, T, 1>(
        at, pixels,
        [&](const LineAt& line, i64 x) {
            Vector<T> loaded;
            loaded.whole = __ldg(reinterpret_cast<const uint4*>(pixels + line.image + x * sizeof(T)));
#pragma unroll
            for (int e = 0; e < IN_VECTOR<T>; ++e)
                visit(Number<T>::load(&loaded.element[e]), counted(line, x + e));
        },
        [&](const LineAt& line, i64 x) {
            visit(Number<T>::load(pixels + line.image + x * sizeof(T)), counted(line, x));
        });
}

// The smallest and largest finite counted value of each plane, then the edges of its bins. `keys` and `tickets`
// are workspace: zeros before and after; a plane's two keys grow to ~ordered(smallest) and ordered(largest).
template <class T>
__device__ __forceinline__ void extremes(const Layout& at, const char* image, const u8* mask, double nodata,
                                         u64* keys, u32* tickets, i64 bins, T* edges) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = mask == nullptr ? nullptr : mask + plane.image * at.mask.image;
        u64 smallest = 0, largest = 0;
        each_number<T>(at, pixels, masked, [&](typename Number<T>::Value pixel, bool counted) {
            const double value = widen(pixel);
            if (counted && is_finite(value) && value != nodata) {
                smallest = max(smallest, ~ordered(value));
                largest = max(largest, ordered(value));
            }
        });
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            smallest = max(smallest, __shfl_xor_sync(0xffffffffu, smallest, distance));
            largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        }
        if (lane_id() == 0 && largest) {
            atomicMax(&keys[2 * index], smallest);
            atomicMax(&keys[2 * index + 1], largest);
        }
        if (is_last_block(&tickets[index], gridDim.x)) {
            const u64 low = __ldcg(keys + 2 * index), high = __ldcg(keys + 2 * index + 1);
            T* const mine = edges + index * (bins + 1);
            if (high) write_edges<T, T>(from_ordered(~low), from_ordered(high), bins, mine);
            else write_edges<T, double>(0, 1, bins, mine);  // nothing was counted
            __syncthreads();
            if (threadIdx.x == 0) keys[2 * index] = keys[2 * index + 1] = 0;
        }
        __syncthreads();  // before the scratch serves the next plane
    }
}

template <class T>
__device__ __forceinline__ void edges_between(double low, double high, i64 planes, i64 bins, T* edges) {
    for (i64 index = blockIdx.x; index < planes; index += gridDim.x)
        write_edges<T, double>(low, high, bins, edges + index * (bins + 1));
}

// `copies` of each counter in shared memory; 0: there are more bins than it holds.
template <class T>
__device__ __forceinline__ void histogram_bins(const Layout& at, const char* image, const u8* mask, double nodata,
                                               const T* edges, i64 copies, const Rule& rule,
                                               const Results& results) {
    const CopiedCounters copied{behind_scratch<u32>(), rule.bins, static_cast<int>(copies)};
    count_planes(at, CopiedOrDirectCounters{copied, nullptr}, rule, results, [&](const Plane& plane, auto add) {
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = mask == nullptr ? nullptr : mask + plane.image * at.mask.image;
        const Bins<T> bins(edges + (plane.image * at.planes + plane.plane) * (rule.bins + 1), rule.bins);
        each_number<T>(at, pixels, masked, [&](typename Number<T>::Value value, bool counted) {
            if (counted && bins.has(value) && widen(value) != nodata) add(static_cast<u32>(bins.of(value)));
        });
    });
}

// What np.interp needs of a bin: its centre, the table's level there, and the slope to the next.
struct Point {
    double centre, level, slope;
};

template <class T>
__device__ __forceinline__ void points_of(const T* edges, i64 count, i64 planes, i64 planes_in_image,
                                          const typename Number<T>::Fraction* tables, i64 to_next_image,
                                          i64 to_next_plane, Point* points) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < planes * count; i += step) {
        const i64 index = i / count, bin = i - index * count, image = index / planes_in_image;
        const auto* const table =
            tables + image * to_next_image + (index - image * planes_in_image) * to_next_plane;
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

// Map every pixel through its plane's points. NaN, infinities and nodata pass.
template <class T>
__device__ __forceinline__ void apply_interpolated(const Layout& at, const char* image, double nodata,
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
#pragma unroll 1
                    while (left > 0 && value < points[left].centre) --left;
#pragma unroll 1
                    while (value >= points[left + 1].centre) ++left;
                    level = between(value, points[left], points[left + 1]);
                }
            }
            return Number<Fraction>::store(level);
        };
        const auto change = [&](i64 from, i64 to) {
            *reinterpret_cast<Fraction*>(targets + to) = level_of(Number<T>::load(pixels + from));
        };
        if (at.image.column != sizeof(T) || at.out.column != sizeof(Fraction)) {
            each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) { change(from, to); });
            continue;
        }
        each_group<true, T, 1>(
            at, pixels,
            [&](const LineAt& line, i64 x) {
                Vector<T> loaded;
                loaded.whole = *reinterpret_cast<const uint4*>(pixels + line.image + x * sizeof(T));
                Fraction* const to = reinterpret_cast<Fraction*>(targets + line.out) + x;
#pragma unroll
                for (int e = 0; e < IN_VECTOR<T>; ++e) to[e] = level_of(Number<T>::load(&loaded.element[e]));
            },
            [&](const LineAt& line, i64 x) {
                change(line.image + x * sizeof(T), line.out + x * sizeof(Fraction));
            });
    }
}

#define FLOATING(NAME, T, FRACTION)                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                           \
    extremes_##NAME(Layout at, const char* image, const u8* mask, double nodata, u64* keys, u32* tickets,   \
                    i64 bins, T* edges) {                                                                   \
        extremes<T>(at, image, mask, nodata, keys, tickets, bins, edges);                                   \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                           \
    edges_##NAME(double low, double high, i64 planes, i64 bins, T* edges) {                                 \
        edges_between<T>(low, high, planes, bins, edges);                                                   \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                           \
    histogram_bins_##NAME(Layout at, const char* image, const u8* mask, double nodata, const T* edges,      \
                          i64 copies, const __grid_constant__ Rule rule, Results results) {                 \
        histogram_bins<T>(at, image, mask, nodata, edges, copies, rule, results);                           \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                           \
    points_##NAME(const T* edges, i64 bins, i64 planes, i64 planes_in_image, const FRACTION* tables,        \
                  i64 to_next_image, i64 to_next_plane, Point* points) {                                    \
        points_of<T>(edges, bins, planes, planes_in_image, tables, to_next_image, to_next_plane, points);   \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                           \
    apply_interpolated_##NAME(Layout at, const char* image, double nodata, const T* edges, i64 bins,        \
                              const Point* points, char* out) {                                             \
        apply_interpolated<T>(at, image, nodata, edges, bins, points, out);                                 \
    }

FLOATING(f16, Half, float)
FLOATING(f32, float, float)
FLOATING(f64, double, double)
