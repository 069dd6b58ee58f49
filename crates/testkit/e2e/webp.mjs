// Pictures of pages as WebP, which the browser can make.
import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';

/**
 * Writes screenshots beside each other to one file, with a line of `frame`'s colour around each, if that is set. `encoder` is any page
 * of a browser. `quality` is between 0 and 1, `scale` the part of the size on the screen.
 */
export async function saveWebp(encoder, screenshots, file, { frame, quality = 0.62, scale = 1 } = {}) {
  const webp = await encoder.evaluate(
    async ([all, frame, quality, scale]) => {
      const images = all.map((data) => Object.assign(new Image(), { src: `data:image/png;base64,${data}` }));
      await Promise.all(images.map((image) => image.decode()));
      const canvas = document.createElement('canvas');
      canvas.width = images.reduce((sum, { width }) => sum + width, 0) * scale;
      canvas.height = Math.max(...images.map(({ height }) => height)) * scale;
      const context = canvas.getContext('2d');
      context.scale(scale, scale);
      context.imageSmoothingQuality = 'high';
      context.fillStyle = 'white';
      context.fillRect(0, 0, canvas.width / scale, canvas.height / scale);
      Object.assign(context, { strokeStyle: frame, lineWidth: 2 });
      let x = 0;
      for (const image of images) {
        context.drawImage(image, x, 0);
        if (frame) context.strokeRect(x + 1, 1, image.width - 2, image.height - 2);
        x += image.width;
      }
      return canvas.toDataURL('image/webp', quality).split(',')[1];
    },
    [screenshots.map((png) => png.toString('base64')), frame, quality, scale],
  );
  await writeFile(file, Buffer.from(webp, 'base64'));
  console.log(`${basename(file, '.webp')} ${Math.round((webp.length * 3) / 4 / 1024)} KiB`);
}
