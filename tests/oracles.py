"""What the real libraries say, and the textbook recipe in its slowest form."""

import itertools

import cv2
import numpy as np
import pyvips
import skimage.exposure
from PIL import Image, ImageOps

WORKED_IMAGE = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
WORKED = {
    "numpy": [[0, 159, 159], [31, 159, 223], [159, 223, 255]],
    "opencv": [[0, 159, 159], [32, 159, 223], [159, 223, 255]],
}


def opencv(image):
    return cv2.equalizeHist(np.ascontiguousarray(image))


def pillow(image, mask=None):
    if mask is not None:
        mask = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(ImageOps.equalize(Image.fromarray(np.ascontiguousarray(image)), mask=mask))


def vips(image):
    """libvips returns 8 bits where they hold the result; the levels are the same."""
    equalized = pyvips.Image.new_from_array(np.ascontiguousarray(image)).hist_equal().numpy()
    return equalized.astype(image.dtype)


def skimage_rule(image, mask=None, bins=256):
    return skimage.exposure.equalize_hist(image, nbins=bins, mask=mask)


def textbook(image):
    """(cdf - cdf_min) * 255 / (cdf_max - cdf_min), pixel by pixel."""
    values = image.ravel().tolist()
    smallest = min(values)
    at_smallest = values.count(smallest)
    if at_smallest == len(values):
        return image.copy()
    span = np.iinfo(image.dtype).max
    at_most = {v: sum(other <= v for other in values) for v in set(values)}
    new = {v: int((n - at_smallest) * span / (len(values) - at_smallest)) for v, n in at_most.items()}
    return np.array([new[v] for v in values], image.dtype).reshape(image.shape)


def match(image, reference):
    """skimage's match_histograms with a channel axis, which keeps the dtype."""
    return skimage.exposure.match_histograms(image[..., None], reference[..., None], channel_axis=-1)[..., 0]


def clahe(image, clip_limit, tiles, shift=0):
    """OpenCV's, whose grid counts columns first."""
    theirs = cv2.createCLAHE(clip_limit, (tiles[1], tiles[0]))
    if shift:
        theirs.setBitShift(shift)
    return theirs.apply(np.ascontiguousarray(image))


def luma(image, order="RGB", equalize=cv2.equalizeHist):
    """OpenCV's recipe for colour images, by its three calls."""
    there = {"RGB": cv2.COLOR_RGB2YCrCb, "BGR": cv2.COLOR_BGR2YCrCb}[order]
    back = {"RGB": cv2.COLOR_YCrCb2RGB, "BGR": cv2.COLOR_YCrCb2BGR}[order]
    ycrcb = cv2.cvtColor(np.ascontiguousarray(image), there)
    ycrcb[..., 0] = equalize(np.ascontiguousarray(ycrcb[..., 0]))
    return cv2.cvtColor(ycrcb, back)


def keep_nodata(image, result, nodata, lowest=None):
    """Make nodata a state in the result of a rule, pixel by pixel. The last axis has the channels of a pixel.

    Nodata stays, and what is not finite; what would become nodata becomes the value beside it: that above
    where nodata is the lowest value of the result, else that below.
    """
    kind, result = result.dtype.type, result.copy()
    if result.dtype.kind == "f":
        lowest = kind(0 if lowest is None else lowest)
        beside = np.nextafter(kind(nodata), kind(np.inf if nodata == lowest else -np.inf))
    else:
        lowest = np.iinfo(kind).min if lowest is None else lowest
        beside = nodata + 1 if nodata == lowest else nodata - 1
    for at in np.ndindex(image.shape[:-1]):
        if all(image[at] == nodata) or not all(np.isfinite(image[at])):
            result[at] = image[at]
        elif all(result[at] == nodata):
            result[at] = beside
    return result


EIGHT_BIT = {"opencv": opencv, "pillow": pillow, "vips": vips, "skimage": skimage_rule}


def shots(histograms, centered):
    """Return the frames that begin a shot, by the histograms of a whole clip in memory, any shape a frame."""
    shares = [h / h.sum() if h.sum() else None for h in (np.asarray(one, np.int64) for one in histograms)]
    d = [None]  # of the first frame from the one before
    for before, after in itertools.pairwise(shares):
        empty = before is None or after is None
        d.append(0.0 if empty else np.abs(after - before).sum() / 2)
    found = []
    for t in range(1, len(d)):
        around = d[max(t - 3, 1) : t] + (d[t + 1 : t + 4] if centered else [])
        if d[t] > 0.15 and all(d[t] > 2.5 * other for other in around):
            found.append(t)
    return found


def windows(histograms, window, centered, cuts):
    """Return the range of frames whose counts each frame of a clip is mapped by."""
    begins = [0, *(shots(histograms, centered) if cuts else []), len(histograms)]
    before, after = ((window - 1) // 2, window // 2) if centered else (window - 1, 0)
    found = []
    for t in range(len(histograms)):
        begin = max(b for b in begins if b <= t)
        end = min(b for b in begins if b > t)
        found.append(range(max(t - before, begin), min(t + after + 1, end)))
    return found
