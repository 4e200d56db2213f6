/** Draws quads, lines and triangles with WebGL2; knows nothing of riders and orders; imports the camera.
 *
 * Every quad has its four vertices in the buffer instead of being an instance: software renderers
 * draw instances one by one, which made 4,000 of them several times slower.
 */

import type { Camera } from "./camera";
import type { Rgb } from "./words";

/** The shapes of a mark, as the shader numbers them. */
export const Shape = { drop: 0, disc: 1, square: 2, diamond: 3, triangle: 4, ring: 5 } as const;
export type Shape = (typeof Shape)[keyof typeof Shape];

const HEAD = "#version 300 es\nprecision highp float;\n";

const VIEW = `
uniform vec2 centre, halfSize; uniform float scale;
vec2 px(vec2 p) { return (p - centre) / scale; }
vec4 clip(vec2 p) { return vec4(p / halfSize, 0., 1.); }
`;

const MARK_VERTEX = `${HEAD}${VIEW}
layout(location = 0) in vec2 at;
layout(location = 1) in vec3 form;  // heading, radius, shape
layout(location = 2) in vec4 colour;
out vec2 q; flat out vec2 kind; flat out vec4 ink;
void main() {
  int v = gl_VertexID & 3;
  float side = form.y * (form.z == 4. ? 1.3 : 1.) + 1.7;
  float front = form.z == 0. ? form.y * 1.9 + 1.7 : side;
  q = vec2((v & 1) == 0 ? -side : front, v < 2 ? -side : side);
  kind = form.yz;
  ink = colour;
  float c = cos(form.x), s = sin(form.x);
  gl_Position = clip(px(at) + vec2(c * q.x - s * q.y, s * q.x + c * q.y));
}`;

// Distances in pixels, negative inside. A dark rim sets marks apart where they overlap.
const MARK_FRAGMENT = `${HEAD}
in vec2 q; flat in vec2 kind; flat in vec4 ink; out vec4 o;
uniform vec3 rim; uniform float dpr;
float cover(float d) { return clamp(.5 - d * dpr, 0., 1.); }
void main() {
  float r = kind.x, d = length(q) - r;
  int shape = int(kind.y + .5);
  if (shape == 0) {
    vec2 f = vec2(q.x, abs(q.y));
    const vec2 n = vec2(.5263, .8503), t = vec2(.8503, -.5263);  // the apex is 1.9 radii ahead
    if (dot(f, t) > 0.) d = dot(f, n) - r;
  } else if (shape == 2) {
    vec2 f = abs(q) - r * .62;
    d = length(max(f, 0.)) + min(max(f.x, f.y), 0.) - r * .26;
  } else if (shape == 3) {
    d = abs((abs(q.x) + abs(q.y) - r * 1.15) * .7071) - r * .2;
  } else if (shape == 4) {
    d = max(-q.y - r * .6, abs(q.x) * .866 + q.y * .5 - r * .6);
  } else if (shape == 5) {
    d = abs(d) - .8;
  }
  float body = cover(d), edge = shape == 5 ? body : cover(d - 1.1) * .85;
  vec3 c = mix(rim, ink.rgb, body);
  float a = max(body, edge) * ink.a;
  o = vec4(c * a, a);
}`;

const LINE_VERTEX = `${HEAD}${VIEW}
layout(location = 0) in vec4 ends;
layout(location = 1) in vec2 form;  // width, dash (0: none)
layout(location = 2) in vec4 colour;
out vec2 q; flat out vec2 kind; flat out vec4 ink;
void main() {
  int v = gl_VertexID & 3;
  vec2 a = px(ends.xy), b = px(ends.zw), d = b - a;
  float len = length(d);
  d = len > .001 ? d / len : vec2(1., 0.);
  float end = float(v & 1), side = (float(v >> 1) * 2. - 1.) * (form.x * .5 + 1.);
  q = vec2(end * len, side);
  kind = form;
  ink = colour;
  gl_Position = clip(mix(a, b, end) + vec2(-d.y, d.x) * side);
}`;

const LINE_FRAGMENT = `${HEAD}
in vec2 q; flat in vec2 kind; flat in vec4 ink; out vec4 o;
uniform float dpr;
void main() {
  float a = ink.a * clamp((kind.x * .5 - abs(q.y)) * dpr + .5, 0., 1.);
  if (kind.y > 0.) a *= clamp(kind.y * .25 - abs(mod(q.x, kind.y) - kind.y * .5) + .5, 0., 1.);
  o = vec4(ink.rgb * a, a);
}`;

const FILL_VERTEX = `${HEAD}${VIEW}
layout(location = 0) in vec2 at;
layout(location = 1) in vec4 colour;
flat out vec4 ink;
void main() { ink = colour; gl_Position = clip(px(at)); }`;

const FILL_FRAGMENT = `${HEAD}
flat in vec4 ink; out vec4 o;
uniform float strength;
void main() { float a = ink.a * strength; o = vec4(ink.rgb * a, a); }`;

const byte = (part: number): number => Math.round(Math.min(Math.max(part, 0), 1) * 255);
export const packed = ([r, g, b]: Rgb, alpha: number): number =>
  ((byte(alpha) << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** Vertices of `words` 32-bit words each, in a buffer that grows. */
class Vertices {
  count = 0;
  protected floats: Float32Array;
  protected ints: Uint32Array;

  constructor(
    readonly words: number,
    capacity = 1024,
  ) {
    this.floats = new Float32Array(capacity * words);
    this.ints = new Uint32Array(this.floats.buffer);
  }

  clear(): void {
    this.count = 0;
  }

  get used(): Float32Array {
    return this.floats.subarray(0, this.count * this.words);
  }

  /** The index of the first word of `n` further vertices. */
  protected more(n: number): number {
    const at = this.count * this.words;
    this.count += n;
    if (this.count * this.words > this.floats.length) {
      const floats = new Float32Array(this.count * this.words * 2);
      floats.set(this.floats);
      this.floats = floats;
      this.ints = new Uint32Array(floats.buffer);
    }
    return at;
  }
}

export class Marks extends Vertices {
  constructor() {
    super(6);
  }

  /** `heading` in radians, anticlockwise from east; `radius` in pixels. */
  add(x: number, y: number, heading: number, radius: number, shape: Shape, colour: number): void {
    let at = this.more(4);
    for (let i = 0; i < 4; i += 1) {
      this.floats[at] = x;
      this.floats[at + 1] = y;
      this.floats[at + 2] = heading;
      this.floats[at + 3] = radius;
      this.floats[at + 4] = shape;
      this.ints[at + 5] = colour;
      at += 6;
    }
  }
}

export class Lines extends Vertices {
  constructor() {
    super(7);
  }

  add(
    ax: number,
    ay: number,
    bx: number,
    by: number,
    width: number,
    dash: number,
    colour: number,
  ): void {
    let at = this.more(4);
    for (let i = 0; i < 4; i += 1) {
      this.floats[at] = ax;
      this.floats[at + 1] = ay;
      this.floats[at + 2] = bx;
      this.floats[at + 3] = by;
      this.floats[at + 4] = width;
      this.floats[at + 5] = dash;
      this.ints[at + 6] = colour;
      at += 7;
    }
  }
}

/** Convex polygons in one colour each. */
export class Fills extends Vertices {
  constructor() {
    super(3);
  }

  add(corners: Float32Array, colour: number): void {
    const n = corners.length / 2;
    let at = this.more((n - 2) * 3);
    for (let i = 1; i < n - 1; i += 1) {
      for (const corner of [0, i, i + 1]) {
        this.floats[at] = corners[corner * 2] ?? 0;
        this.floats[at + 1] = corners[corner * 2 + 1] ?? 0;
        this.ints[at + 2] = colour;
        at += 3;
      }
    }
  }
}

interface Kind {
  program: WebGLProgram;
  uniforms: Map<string, WebGLUniformLocation | null>;
  /** Floats of each attribute; the last one is the colour, in one word. */
  attributes: readonly number[];
}

type Drawable = Marks | Lines | Fills;

/** A buffer on the graphics card and the vertex array that reads it. */
interface Store {
  buffer: WebGLBuffer;
  array: WebGLVertexArrayObject;
}

export class Painter {
  /** Drawn by the processor, where every pixel is dear. */
  readonly software: boolean;
  private readonly gl: WebGL2RenderingContext;
  private kinds: { marks: Kind; lines: Kind; fills: Kind };
  private stores = new Map<Drawable, Store>();
  private quads: WebGLBuffer;
  private quadCount = 0;

  /** Throws an Error, in words, when the browser has no WebGL2. */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly ground: Rgb,
  ) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, depth: false });
    if (gl === null) throw new Error("This browser draws no WebGL2");
    this.gl = gl;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    const name = info === null ? "" : String(gl.getParameter(info.UNMASKED_RENDERER_WEBGL));
    this.software = /swiftshader|llvmpipe|software|basic render/i.test(name);
    this.kinds = this.compile();
    this.quads = gl.createBuffer();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.stores.clear();
      this.quadCount = 0;
      this.kinds = this.compile();
      this.quads = gl.createBuffer();
    });
  }

  /** Empties the picture; `strength` weakens the fills. */
  begin(camera: Camera, dpr: number, strength: number): void {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const [r, g, b] = this.ground;
    gl.clearColor(r / 255, g / 255, b / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    for (const { program, uniforms } of Object.values(this.kinds)) {
      const at = (name: string): WebGLUniformLocation | null => uniforms.get(name) ?? null;
      gl.useProgram(program);
      gl.uniform2f(at("centre"), camera.x, camera.y);
      gl.uniform2f(at("halfSize"), camera.width / 2, camera.height / 2);
      gl.uniform1f(at("scale"), camera.scale);
      gl.uniform1f(at("dpr"), dpr);
      gl.uniform1f(at("strength"), strength);
      gl.uniform3f(at("rim"), r / 255, g / 255, b / 255);
    }
  }

  /** Draws the vertices; `changed` says whether they are to be sent to the card again. */
  draw(what: Drawable, changed = true): void {
    if (what.count === 0) return;
    const { gl } = this;
    const quads = !(what instanceof Fills);
    const kind = what instanceof Marks ? "marks" : what instanceof Lines ? "lines" : "fills";
    const { program, attributes } = this.kinds[kind];
    let store = this.stores.get(what);
    gl.useProgram(program);
    if (store === undefined) {
      store = { buffer: gl.createBuffer(), array: gl.createVertexArray() };
      this.stores.set(what, store);
      this.describe(store, attributes, what.words * 4);
      changed = true;
    }
    gl.bindVertexArray(store.array);
    if (changed) {
      gl.bindBuffer(gl.ARRAY_BUFFER, store.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, what.used, gl.STREAM_DRAW);
    }
    if (quads) {
      this.needQuads(what.count / 4);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.quads);
      gl.drawElements(gl.TRIANGLES, (what.count / 4) * 6, gl.UNSIGNED_INT, 0);
    } else gl.drawArrays(gl.TRIANGLES, 0, what.count);
    gl.bindVertexArray(null);
  }

  private describe(store: Store, attributes: readonly number[], stride: number): void {
    const { gl } = this;
    gl.bindVertexArray(store.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, store.buffer);
    let offset = 0;
    attributes.forEach((size, place) => {
      gl.enableVertexAttribArray(place);
      if (place === attributes.length - 1) {
        gl.vertexAttribPointer(place, 4, gl.UNSIGNED_BYTE, true, stride, offset);
      } else gl.vertexAttribPointer(place, size, gl.FLOAT, false, stride, offset);
      offset += size * 4;
    });
  }

  private needQuads(count: number): void {
    if (count <= this.quadCount) return;
    this.quadCount = Math.max(count, this.quadCount * 2, 4096);
    const indices = new Uint32Array(this.quadCount * 6);
    for (let i = 0; i < this.quadCount; i += 1) {
      const v = i * 4;
      indices.set([v, v + 1, v + 2, v + 2, v + 1, v + 3], i * 6);
    }
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.quads);
    this.gl.bufferData(this.gl.ELEMENT_ARRAY_BUFFER, indices, this.gl.STATIC_DRAW);
  }

  private compile(): { marks: Kind; lines: Kind; fills: Kind } {
    return {
      marks: this.kind(MARK_VERTEX, MARK_FRAGMENT, [2, 3, 1]),
      lines: this.kind(LINE_VERTEX, LINE_FRAGMENT, [4, 2, 1]),
      fills: this.kind(FILL_VERTEX, FILL_FRAGMENT, [2, 1]),
    };
  }

  private kind(vertex: string, fragment: string, attributes: readonly number[]): Kind {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ] as const) {
      const shader = gl.createShader(type);
      if (shader === null) continue; // the context was lost
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`The map's shaders do not link: ${gl.getProgramInfoLog(program) ?? ""}`);
    }
    const names = ["centre", "halfSize", "scale", "dpr", "rim", "strength"];
    const uniforms = new Map(names.map((name) => [name, gl.getUniformLocation(program, name)]));
    return { program, uniforms, attributes };
  }
}
