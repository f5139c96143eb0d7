# %% [markdown]
# # Images are arrays
#
# A picture in a computer is a block of numbers. This chapter loads one with OpenCV, looks at its numbers, and
# finds a face in it with a detector from before deep learning.
#
# ## Load and show
#
# We need OpenCV for pictures, NumPy for arrays and matplotlib to look at them.

# %%
import cv2
from matplotlib import cbook
from matplotlib import pyplot as plt

from convcore.study.article import find

# %%
path = find("astronaut.png", default=cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
bgr = cv2.imread(str(path))
print(bgr.shape, bgr.dtype, "smallest", bgr.min(), "largest", bgr.max())

# %%
fig, (left, right) = plt.subplots(
    1, 2, num="The same array shown as it is, and with blue and red changed over"
)
left.imshow(bgr)
right.imshow(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
for axes, title in ((left, "as OpenCV gives it: BGR"), (right, "as matplotlib wants it: RGB")):
    axes.set_title(title)
    axes.axis("off")
plt.show()

# %% [markdown]
# A formula: $y = \frac{1}{2}x^2$ inline, and
#
# $$\int f(\tau)\,g(t-\tau)\,d\tau$$
#
# > A remark.
