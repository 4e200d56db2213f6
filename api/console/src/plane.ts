/** The map's plane: Web Mercator around the city's centre, scaled to metres there; imports nothing. */

const EARTH_M = 6_378_137;
const RAD = Math.PI / 180;

const mercator = (lat: number): number => Math.log(Math.tan(Math.PI / 4 + (lat * RAD) / 2));

export interface Point {
  x: number;
  y: number;
}

export class Plane {
  private readonly scale: number;
  private readonly north: number;

  constructor(
    readonly lat: number,
    readonly lon: number,
  ) {
    this.scale = EARTH_M * Math.cos(lat * RAD);
    this.north = mercator(lat);
  }

  xOf(lon: number): number {
    return (lon - this.lon) * RAD * this.scale;
  }

  yOf(lat: number): number {
    return (mercator(lat) - this.north) * this.scale;
  }

  lonOf(x: number): number {
    return this.lon + x / this.scale / RAD;
  }

  latOf(y: number): number {
    return (2 * Math.atan(Math.exp(y / this.scale + this.north)) - Math.PI / 2) / RAD;
  }
}
