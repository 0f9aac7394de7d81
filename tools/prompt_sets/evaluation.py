"""The evaluation set: what candidates are compared on. Nothing of it is in the calibration set."""

from prompt_sets import indoors as i
from prompt_sets import outdoors as o
from prompt_sets.entry import FLAT, NEGATIVE_ZH, PHOTO, SQUARE, TALL, WIDE, Drawn, Entry, Photo

ENTRIES: tuple[Entry, ...] = (
    Photo(
        "cat",
        "chelsea.png",
        "A ginger cat looks straight into the lens, twitches its whiskers, then slowly turns its head to the left.",
    ),
    Photo(
        "rocket",
        "rocket.jpg",
        "A rocket lifts off at dusk on a column of fire, smoke billowing around the pad. The camera follows it upward.",
    ),
    Drawn(
        "taxi",
        SQUARE,
        lambda c: i.vehicle(c, ((25, 25, 55), (90, 60, 90)), (240, 190, 40)),
        "A yellow taxi pulls up at night in the rain, its wipers beating, headlights glittering on the wet road.",
    ),
    Drawn(
        "glacier",
        WIDE,
        lambda c: o.mountains(c, ((70, 120, 190), (235, 240, 250)), (120, 135, 160)),
        "A helicopter shot toward a glacier, fast, the ridges parting to both sides as the camera climbs over them.",
    ),
    Drawn(
        "misty_lake",
        TALL,
        lambda c: o.mountains(c, ((180, 190, 200), (225, 228, 225)), (95, 110, 105), lake=True),
        "清晨，薄雾在山间湖面上缓缓流动，一只水鸟划过水面留下涟漪，镜头静止不动。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "night_sea",
        FLAT,
        lambda c: o.sea(c, ((10, 15, 40), (60, 60, 90)), (20, 35, 60), waves=1.4),
        "Moonlit sea at night, slow swell, a path of light glittering on the water toward the horizon.",
    ),
    Drawn(
        "yacht",
        SQUARE,
        lambda c: o.sea(c, ((90, 190, 230), (210, 240, 245)), (20, 140, 160), boat=(30, 60, 140)),
        "A blue yacht turns sharply in turquoise water, its sail snapping over to the other side. Seen from above.",
    ),
    Drawn(
        "pine_forest",
        WIDE,
        lambda c: o.forest(c, (70, 90, 60), (40, 85, 55), trees=22),
        "The camera moves backward through a dense pine forest, trunks sliding past on both sides, fog thickening.",
    ),
    Drawn(
        "gorge",
        PHOTO,
        lambda c: o.waterfall(c, (130, 100, 80), (90, 110, 60)),
        "Slow motion of water bursting over red rocks in a gorge, single drops hanging in the air.",
    ),
    Drawn(
        "red_desert",
        WIDE,
        lambda c: o.desert(c, (190, 95, 60), ((200, 120, 90), (240, 190, 140))),
        "A dust devil wanders across a red desert from right to left, bending and growing, under a copper sky.",
    ),
    Drawn(
        "bonfire",
        TALL,
        lambda c: o.campfire(c, (8, 8, 20), flames=40),
        "A huge bonfire roars on the beach; a log collapses and a shower of sparks bursts up into the black sky.",
    ),
    Drawn(
        "thunderstorm",
        FLAT,
        lambda c: o.storm(c, (25, 30, 45)),
        "暴雨倾盆，闪电划破夜空照亮大地，乌云快速翻滚，远处的树被风吹弯。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "snowfield",
        WIDE,
        lambda c: o.snow(c, ((150, 175, 205), (225, 232, 240)), flakes=320),
        "A blizzard sweeps over white hills, snow blowing sideways so fast that the horizon comes and goes.",
    ),
    Drawn(
        "deep_fish",
        SQUARE,
        lambda c: o.underwater(c, (15, 60, 120), ((120, 220, 230), (190, 140, 230), (240, 240, 250))),
        "Silvery and violet fish hover in deep blue water, then dart away as the camera approaches them.",
    ),
    Drawn(
        "blue_planet",
        PHOTO,
        lambda c: o.planet(c, ((240, 245, 250), (40, 90, 170))),
        "Orbiting a blue planet with white clouds, the line between night and day creeping over it.",
    ),
    Drawn(
        "rush_hour",
        WIDE,
        lambda c: o.skyline(c, ((250, 170, 120), (250, 220, 180)), (90, 80, 90), lit=0.2),
        "Hyperlapse of a downtown at rush hour, cars streaming like ribbons, the sun dropping between the buildings.",
    ),
    Drawn(
        "fireworks",
        SQUARE,
        lambda c: o.fireworks(c, ((255, 90, 90), (110, 200, 255), (255, 220, 110))),
        "Fireworks burst red, blue and gold above a river at night, one after another, their reflections shivering.",
    ),
    Drawn(
        "runner",
        WIDE,
        lambda c: i.people(c, (160, 75, 60), ((150, 190, 220), (215, 225, 220)), ((250, 210, 60),), 1.6),
        "A runner in yellow sprints down the track toward the camera and past it. The camera whips around to follow.",
    ),
    Drawn(
        "family",
        PHOTO,
        lambda c: i.people(
            c,
            (100, 150, 80),
            ((140, 195, 235), (225, 235, 230)),
            ((90, 130, 80), (200, 120, 60), (150, 90, 170), (70, 110, 180)),
        ),
        "Four people stand in a park, join hands, and begin to turn in a circle, faster and faster.",
    ),
    Drawn(
        "concert",
        FLAT,
        lambda c: i.crowd(c, ((50, 20, 80), (160, 60, 120)), 90),
        "A concert crowd jumps in time with the music, hundreds of raised arms, coloured lights sweeping over them.",
    ),
    Drawn(
        "young_woman",
        SQUARE,
        lambda c: i.portrait(c, ((200, 170, 150), (235, 215, 195)), (180, 70, 90), (40, 28, 25), (225, 180, 150)),
        "特写，年轻女子转过头来看向镜头，微风吹动她的头发，她眨眨眼，露出微笑。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "fox",
        WIDE,
        lambda c: i.four_legged(c, ((190, 205, 225), (235, 240, 245)), (225, 230, 240), (215, 110, 45), tall=0.6),
        "A fox trots through fresh snow, stops, pricks up its ears, and leaps head first into a drift.",
    ),
    Drawn(
        "black_horse",
        TALL,
        lambda c: i.four_legged(
            c, ((240, 180, 130), (250, 220, 180)), (120, 95, 60), (45, 38, 40), tall=1.4, mane=True
        ),
        "A black horse rears on its hind legs against the evening sky, shakes its mane, and comes down again.",
    ),
    Drawn(
        "crows",
        PHOTO,
        lambda c: i.birds(c, ((240, 160, 110), (250, 215, 170)), 30, (25, 22, 28)),
        "一群乌鸦从黄昏的天空中飞过，翅膀快速扇动，由近及远逐渐变小。",
        NEGATIVE_ZH,
    ),
    Drawn(
        "steel_gears",
        FLAT,
        lambda c: i.gears(c, ((30, 40, 50), (55, 65, 75)), ((150, 160, 170), (130, 140, 150), (165, 175, 180))),
        "Heavy steel gears start from rest, accelerate until the teeth blur, then stop abruptly. Industrial lighting.",
    ),
    Drawn(
        "train",
        WIDE,
        lambda c: i.vehicle(c, ((170, 190, 205), (225, 228, 225)), (40, 110, 90), cars=2, rails=True),
        "A green train enters from the right, brakes with the wheels sparking, and comes to a halt at the platform.",
    ),
    Drawn(
        "dahlia",
        PHOTO,
        lambda c: i.flower(c, ((60, 50, 70), (40, 60, 45)), (205, 60, 110), (245, 205, 90), 20),
        "Time-lapse, extreme close-up: a pink dahlia opens its petals one by one as dew runs off them.",
    ),
    Drawn(
        "soup",
        SQUARE,
        lambda c: i.still_life(c, ((170, 150, 125), (120, 100, 80)), ((200, 60, 45), (110, 140, 60)), steam=True),
        "Steam curls up from the kitchen table, a tomato is cut in two and its halves fall apart. Handheld close-up.",
    ),
    Drawn(
        "night_room",
        WIDE,
        lambda c: i.room(c, (75, 80, 110), (60, 45, 50), ((15, 20, 50), (35, 40, 80))),
        "A dim room at night: headlights of a passing car throw window shadows that travel over the walls.",
    ),
    Drawn(
        "cafe_sign",
        TALL,
        lambda c: i.sign(c, "CAFE\nPARIS", (170, 150, 125), (40, 75, 60), (245, 235, 205)),
        'A wooden sign with the words "CAFE PARIS" swings on its chains in the wind; the letters stay readable.',
    ),
    Drawn(
        "watercolor_valley",
        FLAT,
        lambda c: i.watercolor(c, ((90, 140, 200), (230, 180, 120), (100, 150, 90), (70, 90, 120))),
        "水彩画风格的山谷，颜色在纸上慢慢晕开，云影掠过田野，镜头向右缓缓移动。",
        "",
    ),
    Drawn(
        "charcoal_tower",
        SQUARE,
        lambda c: i.sketch(c, (225, 222, 215), (30, 28, 28), tower=True),
        "A charcoal sketch of a tower draws itself stroke by stroke, then birds fly out of its windows.",
        "",
    ),
)
