// Pictures of pages as WebP, which the browser can make.
import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';

/** Between 0 and 1. */
const QUALITY = 0.62;

/** Writes screenshots beside each other to one file. `encoder` is any page of a browser. */
export async function saveWebp(encoder, screenshots, file) {
  const webp = await encoder.evaluate(
    async ([all, quality]) => {
      const images = all.map((data) => Object.assign(new Image(), { src: `data:image/png;base64,${data}` }));
      await Promise.all(images.map((image) => image.decode()));
      const canvas = document.createElement('canvas');
      canvas.width = images.reduce((sum, { width }) => sum + width, 0);
      canvas.height = Math.max(...images.map(({ height }) => height));
      let x = 0;
      for (const image of images) {
        canvas.getContext('2d').drawImage(image, x, 0);
        x += image.width;
      }
      return canvas.toDataURL('image/webp', quality).split(',')[1];
    },
    [screenshots.map((png) => png.toString('base64')), QUALITY],
  );
  await writeFile(file, Buffer.from(webp, 'base64'));
  console.log(`${basename(file, '.webp')} ${Math.round((webp.length * 3) / 4 / 1024)} KiB`);
}
