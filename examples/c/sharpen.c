/* Sharpens a picture with one 3x3 kernel; beyond its edges the picture is black. */
#include <convcore.h>
#include <stdio.h>

int main(void)
{
    enum { HEIGHT = 4, WIDTH = 5 };
    const float picture[HEIGHT * WIDTH] = {[1 * WIDTH + 2] = 1}; /* (1, 4, 5, 1): one bright pixel */
    const float kernel[9] = {0, -1, 0, -1, 5, -1, 0, -1, 0};     /* (3, 3, 1, 1) */
    float sharp[HEIGHT * WIDTH];

    if (cc_abi_version() != CC_ABI_VERSION) {
        fprintf(stderr, "built for another version of libconvcore\n");
        return 1;
    }
    const cc_status status = cc_conv2d_f32(picture, 1, HEIGHT, WIDTH, 1, kernel, 3, 3, 1, NULL, 1, 1, 1, CC_LINEAR,
                                           sharp, HEIGHT, WIDTH);
    if (status != CC_OK) {
        fprintf(stderr, "%s\n", cc_status_text(status));
        return 1;
    }
    for (int row = 0; row < HEIGHT; row++) {
        for (int column = 0; column < WIDTH; column++)
            printf("%3g", sharp[row * WIDTH + column]);
        printf("\n");
    }
    return 0;
}
