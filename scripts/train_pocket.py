"""Trains `pocket`, the embedded text-to-image model, from nothing on pictures that the project draws itself.

Examples:
  python scripts/train_pocket.py --stage all --minutes 90          # data, autoencoder, unet, decoder, grader, CLIP
  python scripts/train_pocket.py --stage unet --minutes 80 --resume
  python scripts/train_pocket.py --stage unet --minutes 30 --from assets   # goes on from the committed weights
  python scripts/train_pocket.py --stage decoder --minutes 5 --publish     # sharpens the pictures, keeps the unet
  python scripts/train_pocket.py --stage unet --minutes 15 --device cuda --batch 256 --from assets
Stages read and write storage/pocket-data and storage/pocket-run, which git ignores; --publish puts the unet's
checkpoints and the decoder into assets/models/pocket as well.
"""
import argparse
import ctypes
import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from scripts.pocket import data, networks  # noqa: E402
from scripts.pocket.train_team import say  # noqa: E402

RUN = networks.ROOT / "storage" / "pocket-run"
SHARES = {"vae": .18, "unet": .57, "decoder": .07, "grader": .12, "clip": .06}     # of --minutes, with --stage all


def keep_memory() -> None:
    """Tells glibc to keep freed memory, which spares the CPU a page fault per tensor."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2 ** 31 - 1), (-2, 2 ** 28)):     # no mmap, no trim, pad the heap
            libc.mallopt(option, value)
    except OSError:
        pass


def scenes_ready() -> data.Scenes:
    """The drawn part of the training set."""
    if not (data.FOLDER / "meta.json").exists():
        raise SystemExit("nothing is drawn yet: run --stage data first")
    scenes = data.Scenes()
    scenes.refresh()
    return scenes


def is_ours(args, stage: str, folder: Path) -> bool:
    """Whether to go on from what a stage left in this run's folder, and not from the committed weights: with `--from assets`
    only where that stage was part of this very call."""
    return folder.exists() and (args.start != "assets" or stage in args.done)


def trained_vae(args):
    """The autoencoder of this run, else the committed one."""
    from diffusers import AutoencoderTiny
    folder = RUN / "vae"
    if is_ours(args, "vae", folder):
        return AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32).eval()
    return networks.load_parts()[2].eval()


def key_of(network) -> str:
    """Changes with the weights."""
    digest = hashlib.sha256()
    for weight in network.state_dict().values():
        digest.update(weight.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def encode_all(scenes: data.Scenes, vae, device: str) -> None:
    """Writes the latents of every drawn picture, unless this encoder has written them already."""
    vae.to(device, memory_format=torch.channels_last)
    scenes.kept("latents", scenes.latents_shape, key_of(vae.encoder), lambda x: vae.encode(x.to(device)).latents)


def view_all(scenes: data.Scenes, device: str) -> None:
    """Writes what the grader sees in every drawn picture, unless this grader has written it already."""
    from scripts.pocket import grade
    grader = grade.load().to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        some = grader.views(scenes.images(range(1024)).to(device))
    mean, spread = some.mean((0, 2, 3), keepdim=True), some.std((0, 2, 3), keepdim=True) + 1e-3
    scenes.kept("views", scenes.views_shape, key_of(grader), lambda x: (grader.views(x.to(device)) - mean) / spread)


def stage_data(args, minutes) -> None:
    """Draws the training set."""
    data.draw_set(args.pictures, workers=max(1, data.threads()), log=say)


def save_vae(vae) -> None:
    """Puts the autoencoder into this run's folder."""
    vae.save_pretrained(RUN / "vae")


def stage_vae(args, minutes, whole: bool = True) -> None:
    """Trains the autoencoder."""
    from scripts.pocket import train_vae
    scenes = scenes_ready()
    start = trained_vae(args) if args.resume or args.start == "assets" or not whole else None
    train_vae.train(minutes, save_vae, start, whole, workers_for(args), args.device)
    args.done.add("vae")
    say(f"autoencoder: {train_vae.report(trained_vae(args), scenes)}")


def stage_decoder(args, minutes) -> None:
    """Trains the autoencoder's decoder on; the latents, and with them the unet, stay as they are."""
    stage_vae(args, minutes, whole=False)
    ours = is_ours(args, "unet", RUN / "pipeline")
    unet, text, _ = networks.load_parts(RUN / "pipeline" if ours else networks.MODEL)
    for folder in folders(args):
        networks.save_pipeline(unet, text, trained_vae(args), folder)


def folders(args) -> list[Path]:
    """Where finished pipelines go."""
    return [RUN / "pipeline", *([networks.MODEL] if args.publish else [])]


def workers_for(args) -> int:
    """Worker processes: one per core, or one for a GPU."""
    return data.threads() if args.device == "cpu" else 1


def first_words():
    """A text encoder: with the head start of an earlier run where there is one."""
    from transformers import CLIPTextModel
    folder = RUN / "words"
    return CLIPTextModel.from_pretrained(folder) if folder.exists() else networks.build_text_encoder()


def stage_unet(args, minutes) -> None:
    """Trains text encoder and unet."""
    from scripts.pocket import train_unet
    scenes, vae = scenes_ready(), trained_vae(args)
    encode_all(scenes, vae, args.device)
    view_all(scenes, args.device)
    checkpoint = RUN / "unet.pt"
    if args.start == "assets":
        unet, text, _ = networks.load_parts()
    else:
        unet, text = networks.build_unet(), first_words()
    resuming = args.resume and checkpoint.exists()
    if not resuming and args.start != "assets" and args.word_seconds:
        train_unet.learn_words(text, scenes, args.word_seconds, log=say)
        text.save_pretrained(RUN / "words")
    workers = workers_for(args)
    nets = train_unet.bundle(unet, text, args.device)
    state = train_unet.State(nets, workers)
    if resuming:
        state.load(checkpoint)
        say(f"goes on from step {int(state.clock[0])}, {float(state.clock[1]):.0f} s")
    saver = train_unet.Saver(RUN, vae, folders(args), minutes)
    train_unet.train(minutes, state, nets, saver, args.device, args.batch)
    args.done.add("unet")


def stage_grader(args, minutes) -> None:
    """Trains the grader."""
    from scripts.pocket import grade, train_grader
    start = grade.load() if args.resume or args.start == "assets" else None
    scenes, vae = scenes_ready(), trained_vae(args)
    encode_all(scenes, vae, args.device)
    train_grader.train(minutes, vae.to(args.device), workers_for(args), args.device, start)


def stage_clip(args, minutes) -> None:
    """Trains the small CLIP; its text tower begins as the diffusion model's where there is one."""
    from transformers import CLIPModel
    from scripts.pocket import train_clip
    start = CLIPModel.from_pretrained(train_clip.MODEL, dtype=torch.float32) if args.resume else None
    view_all(scenes_ready(), args.device)
    text = networks.load_parts()[1] if (networks.MODEL / "text_encoder").exists() else None
    train_clip.train(minutes, scenes_ready(), text, args.device, start, say)


STAGES = {"data": stage_data, "vae": stage_vae, "unet": stage_unet, "decoder": stage_decoder, "grader": stage_grader,
          "clip": stage_clip}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=[*STAGES, "all"], required=True)
    parser.add_argument("--minutes", type=float, default=60, help="training time of the stage, or of all together")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in storage/pocket-run")
    parser.add_argument("--from", dest="start", choices=["nothing", "assets"], default="nothing",
                        help="assets: begin with the committed weights")
    parser.add_argument("--pictures", type=int, default=48000, help="drawings of the data stage")
    parser.add_argument("--batch", type=int, default=16, help="pictures per step of the unet stage")
    parser.add_argument("--word-seconds", type=float, default=60, help="head start of a new text encoder")
    parser.add_argument("--publish", action="store_true", help="write the pipeline into assets/models/pocket too")
    args = parser.parse_args()
    args.done = set()                                            # stages whose networks are this call's own
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    keep_memory()
    torch.set_num_threads(data.threads())
    RUN.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stage in STAGES if args.stage == "all" else [args.stage]:
        STAGES[stage](args, args.minutes * SHARES.get(stage, 1) if args.stage == "all" else args.minutes)


if __name__ == "__main__":
    main()
