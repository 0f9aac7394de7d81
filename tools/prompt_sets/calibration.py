"""The calibration set: what the statistics are collected over."""

from prompt_sets import indoors as i
from prompt_sets import outdoors as o
from prompt_sets.entry import FLAT, NEGATIVE_ZH, PHOTO, SQUARE, TALL, WIDE, Drawn, Entry, Photo

ENTRIES: tuple[Entry, ...] = (
    Photo(
        "astronaut",
        "astronaut.png",
        "An astronaut in an orange suit turns her head toward the camera and smiles, the flag behind her stirring.",
    ),
    Photo(
        "coffee",
        "coffee.png",
        "Steam rises from a cup of coffee on a wooden table, a spoon is laid on the saucer. Close-up, slow push in.",
    ),
    Photo(
        "camera",
        "camera.png",
        "Black and white footage: a photographer in a coat bends over a film camera on a tripod and turns the crank.",
    ),
    Photo(
        "galaxies",
        "hubble_deep_field.jpg",
        "The camera flies slowly through a field of distant galaxies; near ones drift past, far ones barely move.",
        (0, 100, 800, 650),
    ),
    Drawn(
        "lake",
        WIDE,
        lambda c: o.mountains(c, ((90, 140, 200), (220, 225, 230)), (70, 75, 85), lake=True),
        "The camera glides low over a mountain lake at morning, ripples breaking the reflection of the peaks.",
    ),
    Drawn(
        "sunset_peaks",
        FLAT,
        lambda c: o.mountains(c, ((60, 40, 90), (250, 150, 90)), (50, 35, 50), sun=0.3),
        "Time-lapse of a sunset behind jagged mountains, clouds streaming fast to the right, light fading to violet.",
    ),
    Drawn(
        "sailing",
        WIDE,
        lambda c: o.sea(c, ((120, 170, 220), (235, 225, 205)), (40, 95, 125), boat=(150, 50, 40)),
        "A small red sailing boat tilts in the wind and crosses the frame, spray flying from its bow. Tracking shot.",
    ),
    Drawn(
        "breakers",
        TALL,
        lambda c: o.sea(c, ((130, 140, 155), (200, 205, 210)), (50, 80, 90), waves=2.5),
        "Grey waves roll toward the camera and break into white foam, again and again, under a low sky.",
    ),
    Drawn(
        "birches",
        WIDE,
        lambda c: o.forest(c, (120, 130, 70), (170, 150, 50), path=(165, 140, 100)),
        "Walking along a forest path in autumn, handheld camera, yellow leaves spinning down between the trees.",
    ),
    Drawn(
        "waterfall",
        TALL,
        lambda c: o.waterfall(c, (90, 90, 85), (60, 100, 55)),
        "A waterfall plunges into a green pool, mist drifting to the right. The camera tilts slowly from top to foot.",
    ),
    Drawn(
        "dunes",
        FLAT,
        lambda c: o.desert(c, (215, 170, 110), ((90, 150, 215), (235, 225, 200))),
        "Aerial shot over endless sand dunes, wind carrying sand off the crests, shadows sliding across the slopes.",
    ),
    Drawn(
        "campfire",
        SQUARE,
        lambda c: o.campfire(c, (20, 24, 55)),
        "A campfire crackles at night under the stars; flames leap, sparks swirl upward, the logs glow and settle.",
    ),
    Drawn(
        "lightning",
        WIDE,
        lambda c: o.storm(c, (40, 60, 35)),
        "Lightning strikes twice over a dark plain while rain sweeps across the field. Static camera.",
    ),
    Drawn(
        "snow_house",
        SQUARE,
        lambda c: o.snow(c, ((25, 35, 70), (80, 95, 140)), house=True),
        "夜里大雪纷飞，小木屋的窗户透出温暖的灯光，雪花缓缓落在屋顶上，镜头慢慢推近。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "reef",
        WIDE,
        lambda c: o.underwater(c, (40, 130, 170), ((250, 150, 40), (240, 220, 80), (230, 80, 60))),
        "A school of orange and yellow fish turns all at once under water, light shafts wavering from the surface.",
    ),
    Drawn(
        "ringed_planet",
        SQUARE,
        lambda c: o.planet(c, ((220, 190, 140), (150, 110, 80)), ring=True),
        "A ringed planet rotates slowly in space, its bands of cloud moving at different speeds, the stars fixed.",
    ),
    Drawn(
        "harbour_city",
        FLAT,
        lambda c: o.skyline(c, ((20, 20, 50), (120, 70, 90)), (60, 60, 80), lit=0.5, water=True),
        "夜晚的城市倒映在水面上，窗口的灯一盏盏亮起，一艘渡轮从左向右驶过，水波荡漾。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "day_city",
        PHOTO,
        lambda c: o.skyline(c, ((110, 170, 230), (220, 230, 240)), (165, 160, 150)),
        "A drone rises between office towers by day, revealing street after street, turning slowly to the right.",
    ),
    Drawn(
        "walkers",
        WIDE,
        lambda c: i.people(c, (150, 145, 135), ((175, 200, 220), (225, 225, 220)), ((180, 60, 60), (60, 90, 150))),
        "Two friends in red and blue walk side by side toward the camera along a promenade, talking and laughing.",
    ),
    Drawn(
        "dancers",
        PHOTO,
        lambda c: i.people(
            c, (70, 40, 45), ((60, 25, 50), (140, 60, 70)), ((240, 200, 70), (220, 90, 140), (90, 190, 170)), 1.4
        ),
        "Three dancers in bright clothes jump and spin quickly on a stage, arms flung wide, spotlights sweeping.",
    ),
    Drawn(
        "market_crowd",
        WIDE,
        lambda c: i.crowd(c, ((200, 190, 170), (150, 135, 115)), 70),
        "熙熙攘攘的集市，人群从四面八方走过，镜头缓慢向左平移，远处有人挥手。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "old_man",
        TALL,
        lambda c: i.portrait(c, ((70, 80, 75), (40, 45, 45)), (60, 60, 70), (200, 200, 205)),
        "Close-up of an old man with white hair who slowly raises his eyebrows, blinks, and begins to smile.",
    ),
    Drawn(
        "galloping_horse",
        WIDE,
        lambda c: i.four_legged(
            c, ((120, 170, 220), (225, 230, 225)), (110, 140, 60), (120, 70, 40), tall=1.3, mane=True
        ),
        "A brown horse gallops across a meadow at full speed, mane and tail flying, the camera racing alongside.",
    ),
    Drawn(
        "sleeping_dog",
        PHOTO,
        lambda c: i.four_legged(c, ((220, 200, 170), (235, 225, 205)), (150, 120, 90), (200, 160, 100), tall=0.3),
        "A small dog lowers its head, yawns, stretches its front legs, and wags its tail.",
    ),
    Drawn(
        "gulls",
        FLAT,
        lambda c: i.birds(c, ((130, 180, 225), (240, 235, 225)), 22, (245, 245, 250)),
        "A flock of gulls circles against the clouds, wings beating, some gliding out of the frame. Camera looks up.",
    ),
    Drawn(
        "brass_gears",
        SQUARE,
        lambda c: i.gears(c, ((40, 35, 30), (70, 60, 50)), ((200, 160, 70), (180, 140, 60), (210, 175, 95))),
        "Macro shot of brass gears in a clockwork, three wheels meshing and turning steadily in opposite directions.",
    ),
    Drawn(
        "red_car",
        WIDE,
        lambda c: i.vehicle(c, ((140, 185, 230), (235, 235, 225)), (190, 40, 40)),
        "A red car accelerates out of the frame to the left on a country road, dust whirling behind it.",
    ),
    Drawn(
        "sunflower",
        SQUARE,
        lambda c: i.flower(c, ((150, 190, 220), (110, 150, 90)), (245, 195, 40), (90, 55, 25), 16),
        "微距镜头，一朵向日葵在风中轻轻摇曳，一只蜜蜂落在花心上，背景虚化。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "oranges",
        PHOTO,
        lambda c: i.still_life(c, ((90, 85, 80), (60, 55, 50)), ((240, 140, 30), (235, 130, 25), (245, 160, 50))),
        "A hand reaches into the frame and takes one of three oranges from the table; another rolls to the edge.",
    ),
    Drawn(
        "sunny_room",
        WIDE,
        lambda c: i.room(c, (215, 205, 185), (140, 100, 65), ((150, 195, 230), (120, 160, 100))),
        "Inside a quiet room, sunlight wanders across the floor and a curtain lifts in the breeze. Slow dolly forward.",
    ),
    Drawn(
        "open_sign",
        PHOTO,
        lambda c: i.sign(c, "OPEN", (45, 40, 50), (25, 22, 30), (255, 70, 90), neon=True),
        'A red neon sign that reads "OPEN" flickers twice and then shines steadily on a brick wall at night.',
    ),
    Drawn(
        "ink_house",
        SQUARE,
        lambda c: i.sketch(c, (246, 240, 226), (45, 45, 60)),
        "An ink drawing of a house comes alive: smoke curls from the roof and the hills roll gently like waves.",
        "",
    ),
)
