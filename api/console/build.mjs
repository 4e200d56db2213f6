/** Builds `dist/` from `src/` and writes what it was built from to `dist/SOURCE.sha256`. */

import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);

await rm("dist", { recursive: true, force: true });
await mkdir("dist");
await build({
  entryPoints: { app: "src/main.ts" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
});
await build({
  entryPoints: { app: "src/app.css" },
  outdir: "dist",
  bundle: true,
  minify: true,
  target: ["chrome111", "firefox113", "safari16.4"],
  loader: { ".woff2": "file" },
  assetNames: "inter",
  logLevel: "warning",
});
await copyFile("index.html", "dist/index.html");
await copyFile("src/icon.svg", "dist/icon.svg");
await writeFile("dist/THIRD_PARTY.txt", await notices(["h3-js", "@fontsource-variable/inter"]));
await writeFile("dist/SOURCE.sha256", await sums());

/** The licences of what is inside the bundle. */
async function notices(packages) {
  const parts = [];
  for (const name of packages) {
    const folder = join("node_modules", name);
    const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const texts = [];
    for (const file of ["LICENSE", "NOTICE"]) {
      const text = await readFile(join(folder, file), "utf8").catch(() => "");
      if (text.trim() !== "") texts.push(text.trim());
    }
    parts.push(`${name} ${version}\n${"=".repeat(72)}\n\n${texts.join("\n\n")}\n`);
  }
  return parts.join("\n\n");
}

/** Lines as `sha256sum -c` reads them, of every source and every built file. */
async function sums() {
  const listed = async (folder) => (await readdir(folder)).map((name) => `${folder}/${name}`);
  const files = [
    ...["build.mjs", "index.html", "package-lock.json", "package.json", "tsconfig.json"],
    ...(await listed("src")),
    ...(await listed("dist")),
  ].sort();
  const lines = [];
  for (const file of files) {
    const sum = createHash("sha256")
      .update(await readFile(file))
      .digest("hex");
    lines.push(`${sum}  ${file}\n`);
  }
  return lines.join("");
}
