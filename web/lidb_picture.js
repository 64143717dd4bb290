// The picture and the words inside a person's file. They come from the file's header, through ComfyUI's own route.
import { api } from "../../scripts/api.js";

const JPEG = /^data:image\/jpeg;base64,[A-Za-z0-9+/]+=*$/;

// "[V] face" (Faceworld, predicted)
function describe(metadata) {
  try {
    const { trigger, base, made_by } = JSON.parse(metadata.facts);
    return `"${trigger}" (${[base, made_by].filter(Boolean).join(", ")})`;
  } catch {
    return "";
  }
}

// {source: a data address, "" if the file has no picture or something else in its place; words}
export async function pictureOf(name) {
  const answer = name && (await api.fetchApi(`/view_metadata/lidb?filename=${encodeURIComponent(name)}`));
  const metadata = answer?.ok ? await answer.json() : {};
  const thumbnail = metadata["modelspec.thumbnail"] ?? "";
  return { source: JPEG.test(thumbnail) ? thumbnail : "", words: describe(metadata) };
}
